#!/bin/sh
# A short run of every target, after all seeds: about two minutes and a build. Fails on the first finding.
# SECONDS_EACH (default 10) sets the time for each target.
set -eu

cd "$(dirname "$0")"
. ./toolchain.sh
echo "fuzzing with the $toolchain toolchain, sanitizer $sanitizer"
cargo "+$toolchain" fuzz build --fuzz-dir . --sanitizer "$sanitizer"
for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    echo "== $target"
    TOOLCHAIN=$toolchain SANITIZER=$sanitizer ./run.sh "$target" "${SECONDS_EACH:-10}" -verbosity=0
done
echo "no findings"
