# Sets $toolchain and $sanitizer for run.sh and ci.sh.
cargo fuzz --version >/dev/null 2>&1 || {
    echo "$0: cargo-fuzz is missing; install it with: cargo install cargo-fuzz --locked" >&2
    exit 1
}
# A toolchain may be listed and yet lack its compiler or its standard library.
usable() {
    libraries=$(rustc "+$1" --print target-libdir 2>/dev/null) && ls "$libraries"/libstd-*.rlib >/dev/null 2>&1
}
if [ -n "${TOOLCHAIN:-}" ]; then
    toolchain=$TOOLCHAIN
elif usable nightly; then
    toolchain=nightly
else
    toolchain=stable
fi
case $toolchain in
nightly*) sanitizer=${SANITIZER:-address} ;;
# Sanitizers need a nightly compiler; coverage does not.
*) sanitizer=${SANITIZER:-none} ;;
esac
