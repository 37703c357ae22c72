#!/bin/bash
# Brings the programs that the demonstration and the tests use: tools.sh SET...
#
#   containerd   containerd 2.x and ctr (Debian sid)
#   registry     docker-registry
#   qemu         qemu-system-x86_64 and a static busybox
#   kernel       a stock Debian kernel with its modules
#   wasm-cc      clang, lld, wasi-libc and the compiler runtime for wasm32
#   protoc       protobuf-compiler and the include files of Google's types; its command is /protoc
#
# Packages are fetched by apt from the mirrors that this system already uses, checked by apt's
# signatures, and unpacked into trees below the cache directory: nothing is installed, and neither
# apt's lists nor dpkg's database are touched. A set that is there is not looked at again, so a run
# with a filled cache needs no network. Prints the directory of each tree, one a line, on stdout and
# each long step on stderr.
#
# HYPERLIGHT_CACHE   the cache directory (default: $XDG_CACHE_HOME or ~/.cache, /hyperlight-shim)
set -euo pipefail

cache=${HYPERLIGHT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/hyperlight-shim}
say() { echo "tools: $*" >&2; }
die() { say "$*"; exit 1; }

# uri_and_suite: the Debian archives of this system, "URI SUITE" a line. Listing what an update
# would fetch is apt's own reading of its sources, whatever format they are written in.
uri_and_suite() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
    apt-get --print-uris update |
        sed -nE "s#^'([^']+)/dists/([^/]+)/InRelease'.*#\1 \2#p" |
        grep -E " ($codename|stable|testing|sid|unstable)(-updates|-security)?\$" |
        grep -E 'debian[^/]*/? ' ||
        die "apt has no Debian archive for '$codename' among its sources (see /etc/apt/sources.list.d)"
}

# apt_for DISTRIBUTION COMMAND...: apt with sources, lists and archives of its own. `system` is the
# release that runs here with its updates, `sid` the unstable suite on the same mirror.
apt_for() {
    local distribution=$1 root=$cache/apt/$1 keyring options
    shift
    options=(-q -o Dir::Etc::sourcelist="$root/sources.list" -o Dir::Etc::sourceparts=-
        -o Dir::State::lists="$root/lists" -o Dir::Cache="$root/cache" -o Debug::NoLocking=true
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o Acquire::Retries=3 -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success=)
    if [ ! -e "$root/updated" ] || [ -n "$(find "$root/updated" -mmin +1440)" ]; then
        for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
            [ -e "$keyring" ] && break
        done
        mkdir -p "$root/lists/partial" "$root/cache/archives/partial"
        uri_and_suite | if [ "$distribution" = sid ]; then
            grep -vE '(-updates|-security)$' | sed -E 's/ .*/ sid/; q'
        else
            cat
        fi | sed "s#.*#deb [signed-by=$keyring] & main#" >"$root/sources.list"
        say "reading the package lists of Debian ($distribution)"
        apt-get "${options[@]}" update >"$root/log" 2>&1 || die "apt-get update failed: $(tail -n 3 "$root/log")"
        touch "$root/updated"
    fi
    local command=$1
    shift
    case $command in
    show) apt-cache "${options[@]}" "$@" ;;
    # the packages with all that they depend on, whatever is installed here: that may change
    whole)
        : >"$root/status"
        apt-get "${options[@]}" -o Dir::State::status="$root/status" -y --no-install-recommends \
            --download-only install "$@"
        ;;
    # the packages alone, which need nothing but the system's C library
    alone) (cd "$root/cache/archives" && apt-get "${options[@]}" download "$@") ;;
    esac
}

# unpack SET DISTRIBUTION whole|alone PACKAGE...: fills the tree of a set
unpack() {
    local set=$1 distribution=$2 how=$3 tree=$cache/tools/$1 archives=$cache/apt/$2/cache/archives deb
    shift 3
    [ "$(cat "$tree/.complete" 2>/dev/null)" = "$*" ] && return
    apt_for "$distribution" show show dpkg >/dev/null
    say "fetching $* from Debian ($distribution)"
    rm -rf "$tree" "$tree.partial"
    mkdir -p "$tree.partial"
    rm -f "$archives"/*.deb
    apt_for "$distribution" "$how" "$@" >"$cache/apt/$distribution/log" 2>&1 ||
        die "apt could not fetch $*: $(tail -n 3 "$cache/apt/$distribution/log")"
    # The C library goes with the loader, and that is the system's.
    rm -f "$archives"/libc6_*.deb
    for deb in "$archives"/*.deb; do dpkg-deb -x "$deb" "$tree.partial"; done
    rm -f "$archives"/*.deb
    echo "$*" >"$tree.partial/.complete"
    mv "$tree.partial" "$tree"
}

# dependency PACKAGE PATTERN: the name that a metapackage of the system's release stands for
dependency() {
    apt_for system show depends "$1" | sed -nE "s/^ *Depends: ($2)\$/\1/p" | head -n 1
}

bring() {
    local tree=$cache/tools/$1
    case $1 in
    containerd) unpack "$1" sid alone containerd ;;
    registry) unpack "$1" system alone docker-registry ;;
    qemu) unpack "$1" system whole qemu-system-x86 qemu-system-data seabios busybox-static ;;
    protoc)
        unpack "$1" system whole protobuf-compiler libprotobuf-dev
        # A program for build scripts, which know no library path.
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' \
            "$tree/usr/lib/x86_64-linux-gnu" "$tree/usr/bin/protoc" >"$tree/protoc"
        chmod +x "$tree/protoc"
        ;;
    kernel)
        # Any kernel will do: one that is there stays when Debian publishes the next.
        [ -e "$tree/.complete" ] || unpack "$1" system alone "$(dependency linux-image-amd64 'linux-image-[0-9].*')"
        ;;
    wasm-cc)
        [ -e "$tree/.complete" ] || {
            local llvm
            llvm=$(dependency clang 'clang-[0-9]+')
            llvm=${llvm#clang-}
            unpack "$1" system whole "clang-$llvm" "libclang-common-$llvm-dev" "lld-$llvm" wasi-libc \
                "libclang-rt-$llvm-dev-wasm32"
        }
        ;;
    *) die "unknown set '$1' (see the head of $0)" ;;
    esac
    echo "$tree"
}

[ $# -gt 0 ] || die "usage: tools.sh SET... (see the head of $0)"
mkdir -p "$cache"
# One at a time: tests of one run, or two runs, may ask for the same set.
exec 9>"$cache/lock"
flock 9
for set in "$@"; do bring "$set" 9>&-; done
