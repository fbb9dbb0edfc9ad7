#!/usr/bin/env bash
# Looks for inputs over which a parser breaks: scripts/fuzz.sh [SECONDS [TARGET…]].
# All targets take turns, an hour in all unless it is said otherwise. The compiler is the pinned one: coverage needs no
# nightly. What was found by earlier runs lies in the cache and is gone on from; fuzz/corpus holds what every run begins
# with. An input that breaks something is left in fuzz/artifacts and named; put it into the corpus with the mend.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${EVERGATE_CACHE:-$HOME/.cache/evergate}
seconds=${1:-3600}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for program in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$program" .rs)"); done
fi
each=$((seconds / ${#targets[@]}))
[ "$each" -ge 1 ] || { echo "fuzz: ${#targets[@]} targets need as many seconds" >&2; exit 2; }

# What libFuzzer watches, as cargo-fuzz sets it. With a target triple only what is fuzzed is built so, and no build script.
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$cache/target-fuzz
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
  cargo build --manifest-path fuzz/Cargo.toml --release --target "$host" --bins

mkdir -p fuzz/artifacts
broken=0
for target in "${targets[@]}"; do
  known=$cache/fuzz-corpus/$target
  mkdir -p "$known"
  log=$(mktemp)
  if "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$each" -max_len=4096 -print_final_stats=1 \
    -artifact_prefix="fuzz/artifacts/$target-" "$known" "fuzz/corpus/$target" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target: $runs inputs in $each s, nothing found"
  else
    broken=1
    echo "$target: BROKEN"
    tail -n 30 "$log"
  fi
  rm -f "$log"
done
exit $broken
