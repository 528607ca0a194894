#!/bin/sh
# Runs every fuzz target for so many seconds.   fuzz.sh BUILD_FOLDER SECONDS [TARGET...]
#
# What a target has learnt stays in BUILD_FOLDER/corpus; an input that breaks one is left in BUILD_FOLDER/found, and
# BUILD_FOLDER/fuzz_<target> FILE runs it again.
set -eu
build=$1 seconds=$2
shift 2
[ $# -gt 0 ] || set -- segment text_block text_filter cells cell_runs rollup manifest sketch hyperloglog filter records \
  msgpack ring_lane arrow json_lines otlp otlp_json traceparent prices redact
mkdir -p "$build/corpus" "$build/found"
"$build/fuzz_seeds" "$build/seeds"
failed=
for target; do
  mkdir -p "$build/corpus/$target"
  log=$build/fuzz_$target.log
  if "$build/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 \
      -artifact_prefix="$build/found/$target-" "$build/corpus/$target" "$build/seeds/$target" >"$log" 2>&1; then
    printf '%-12s %s\n' "$target" "$(tail -n 1 "$log")"
  else
    tail -n 40 "$log"
    echo "$target: FAILED, see $log"
    failed=1
  fi
done
[ -z "$failed" ]
