#!/bin/sh
# Builds the load generator, the backend and the bare forwarders into benches/rig/bin.
#   ./build.sh             all of it          ./build.sh --c-only     only what needs no cargo (the self-test)
#   ./build.sh --pingora   also the optional Pingora contender (a large build; needs cmake)
set -eu
cd "$(dirname "$0")"
mkdir -p bin
for program in backend load limit_epoll; do
    ${CC:-cc} -O2 -std=gnu17 -Wall -Wextra -Werror -o "bin/$program" "src/$program.c"
done
[ "${1:-}" = --c-only ] && exit 0

build() { # directory, binaries…
    directory=$1
    shift
    cargo build --release --locked --manifest-path "$directory/Cargo.toml" --target-dir "$directory/target"
    for binary in "$@"; do
        install -m 755 "$directory/target/release/$binary" bin/ # replaces one that is running, too
    done
}
build forwarders limit_mio limit_monoio limit_tokio
[ "${1:-}" = --pingora ] && build pingora pingora_sticky
exit 0
