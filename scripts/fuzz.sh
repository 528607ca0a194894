#!/bin/sh
# Runs every fuzz target for so many seconds, as many at once as there are processors.
#
#   fuzz.sh BUILD_FOLDER SECONDS [TARGET...]
#
# What a target has learnt stays in BUILD_FOLDER/corpus; an input that breaks one is left in BUILD_FOLDER/found, and
# BUILD_FOLDER/fuzz_<target> FILE runs it again. $FUZZ_SEED, a number above 0, makes runs that begin alike try alike.
set -eu
build=$1 seconds=$2
shift 2
[ $# -gt 0 ] || set -- segment text_block text_filter cells cell_runs rollup manifest sketch hyperloglog filter records \
  msgpack ring_lane arrow json_lines otlp otlp_json traceparent prices redact
mkdir -p "$build/corpus" "$build/found"
"$build/fuzz_seeds" "$build/seeds"
export build seconds
# shellcheck disable=SC2016  # the inner shell expands it
printf '%s\n' "$@" | xargs -P "$(nproc 2>/dev/null || echo 2)" -I '{}' sh -c '
  mkdir -p "$build/corpus/{}"
  log=$build/fuzz_{}.log
  if "$build/fuzz_{}" -max_total_time="$seconds" -seed="${FUZZ_SEED:-0}" -timeout=10 -rss_limit_mb=1024 -max_len=65536 \
      -artifact_prefix="$build/found/{}-" "$build/corpus/{}" "$build/seeds/{}" >"$log" 2>&1; then
    printf "%-12s %s\n" "{}" "$(tail -n 1 "$log")"
  else
    tail -n 40 "$log"
    echo "{}: FAILED, see $log"
    exit 1
  fi'
