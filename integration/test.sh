#!/bin/bash
# Runs every test and counts: test.sh CARGO-COMMAND...
#
# The last line is the sum over all test binaries, "N passed, N failed, N skipped". A test that cannot
# run here says `skipped: NAME: REASON` and is counted as skipped, not as passed. Where /dev/kvm is, a
# test that needs it must run.
set -uo pipefail
cd "$(dirname "$0")/.."
[ -e /dev/kvm ] && export REQUIRE_KVM=1

log=$(mktemp)
trap 'rm -f "$log"' EXIT
{
    env "$@" test --release --workspace --no-fail-fast -- --show-output
    status=$?
    # A workspace of its own: the library OS in a process, beside Wasmtime's WASI.
    env "$@" test --release --manifest-path integration/oracle/Cargo.toml \
        --target-dir "${CARGO_TARGET_DIR:-target}/oracle" --no-fail-fast -- --show-output
    status=$((status | $?))
    fuzz/run.sh bounded
    exit $((status | $?))
} 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

# Where tests run one at a time, the runner has already begun the line.
skips=$(sed -nE 's/^(test [^ ]+ \.\.\. )?(skipped: .*)/\2/p' "$log")
# "test result: ok. 3 passed; 0 failed; 1 ignored; ..." of each test binary
read -r passed failed ignored < <(awk '/^test result: / { p += $4; f += $6; i += $8 }
    END { print p + 0, f + 0, i + 0 }' "$log")
skipped=$(grep -c . <<<"$skips")
[ -z "$skips" ] || echo "$skips"
# What failed is told once more, where it is not lost among the output of the other tests: what it said up to a
# backtrace or containerd's log, which is above.
awk '/^failures:$/ { inside = !inside; told = 20; next }
    inside && /^---- / { told = 0; print "\nfailed: " $2; next }
    /^ *[Ss]tack backtrace:$/ || /^the end of containerd.s log:$/ { told = 20 }
    inside && NF && told < 20 { told++; print "    " substr($0, 1, 400) }' "$log"
# A build that fails, or a test binary that dies, has no result line.
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
if [ $((passed - skipped)) -le 0 ] && [ "$failed" -eq 0 ]; then
    echo "no test has run"
    failed=1
fi
echo
echo "$((passed - skipped)) passed, $failed failed, $((skipped + ignored)) skipped"
[ "$failed" -eq 0 ]
