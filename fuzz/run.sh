#!/bin/sh
# Fuzzes one target: fuzz/run.sh TARGET SECONDS [libFuzzer options]
#
# Reads fuzz/seeds/TARGET and fuzz/dictionaries/TARGET.dict; keeps what it finds interesting in fuzz/corpus/TARGET and
# what breaks in fuzz/artifacts/TARGET. Uses the nightly toolchain with AddressSanitizer if there is one, else the
# default toolchain without a sanitizer; TOOLCHAIN and SANITIZER override.
set -eu

[ $# -ge 2 ] || { echo "usage: $0 TARGET SECONDS [libFuzzer options]" >&2; exit 2; }
target=$1 seconds=$2
shift 2
cd "$(dirname "$0")"
[ -f "fuzz_targets/$target.rs" ] || {
    echo "$0: no target $target; there are: $(basename -s .rs fuzz_targets/*.rs | tr '\n' ' ')" >&2
    exit 2
}
. ./toolchain.sh

mkdir -p "corpus/$target"
dictionary=
[ -f "dictionaries/$target.dict" ] && dictionary="-dict=dictionaries/$target.dict"
# A target that takes a second for one input is a finding too.
exec cargo "+$toolchain" fuzz run --fuzz-dir . --sanitizer "$sanitizer" "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=2048 -print_final_stats=1 $dictionary "$@"
