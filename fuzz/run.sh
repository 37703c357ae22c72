#!/bin/bash
# Runs the fuzz targets: run.sh bounded | long
#
# bounded: a fixed number of inputs from a fixed seed, the same each time; reports like a test runner.
# long: FUZZ_SECONDS (300) for each target, going on from what earlier long runs found.
#
# What makes a target fail is left below the target directory, and the command that repeats it is said.
set -uo pipefail
mode=$1
root=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$0")/../target}")/fuzz
cd "$(dirname "$0")"
host=x86_64-unknown-linux-gnu
declare -A runs=([abi_decode]=2000000 [host_dispatch]=25000)
targets=(abi_decode host_dispatch)

CARGO_TARGET_DIR=$root cargo build --quiet --release || exit 1
mkdir -p "$root/found"
# Scratch directories go here, in memory where there is a file system for that.
export TMPDIR
TMPDIR=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$TMPDIR"' EXIT

# Long inputs from the start: a sequence of one call finds little.
common=(-max_len=2048 -len_control=0 -timeout=60 -print_final_stats=1)
failed=0
echo "running ${#targets[@]} tests"
for target in "${targets[@]}"; do
    log=$root/$target.log
    if [ "$mode" = long ]; then
        corpus=$root/corpus/$target
        mkdir -p "$corpus"
        bound=("-max_total_time=${FUZZ_SECONDS:-300}" "$corpus")
    else
        bound=("-runs=${runs[$target]}" -seed=1)
    fi
    if "$root/$host/release/$target" "${common[@]}" -artifact_prefix="$root/found/$target-" \
        "${bound[@]}" >"$log" 2>&1; then
        echo "test fuzz::$target ... ok ($(sed -nE 's/^Done ([0-9]+) runs in ([0-9]+) .*/\1 runs, \2 s/p' "$log"))"
    else
        failed=$((failed + 1))
        echo "test fuzz::$target ... FAILED"
        # The inputs that were new on the way are not of interest.
        grep -avE '^#[0-9]+|NEW_FUNC' "$log" | tail -60
        echo "repeat it by: $root/$host/release/$target FILE, with the file named above"
    fi
done
word=ok
[ "$failed" -eq 0 ] || word=FAILED
echo
echo "test result: $word. $((${#targets[@]} - failed)) passed; $failed failed; 0 ignored"
[ "$failed" -eq 0 ]
