#!/bin/sh
# A short run of every target, after all seeds: two minutes of fuzzing, shared by all processors, and a build. Fails when any target finds something.
# SECONDS_EACH (default 10) sets the time for each target; as many run side by side as there are processors.
set -eu

cd "$(dirname "$0")"
. ./toolchain.sh
echo "fuzzing with the $toolchain toolchain, sanitizer $sanitizer"
cargo "+$toolchain" fuzz build --fuzz-dir . --sanitizer "$sanitizer"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export TOOLCHAIN="$toolchain" SANITIZER="$sanitizer" logs
# xargs ends with 123 when a target has failed; what it said is shown whole then.
basename -s .rs fuzz_targets/*.rs | xargs -P "$(nproc 2>/dev/null || echo 2)" -I '{}' sh -c '
    if ./run.sh "$1" "$2" -verbosity=0 >"$logs/$1" 2>&1; then
        echo "== $1: no findings"
    else
        echo "== $1: FAILED"
        cat "$logs/$1"
        exit 1
    fi' - '{}' "${SECONDS_EACH:-10}"
echo "no findings"
