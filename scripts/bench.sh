#!/usr/bin/env bash
# bench.sh [FLAG...]: runs the benchmarks, keeps what they say in target/bench.log, and ends with a table of their figures and goals.
# The exit status is cargo's. A goal that is missed does not fail the run: figures are of one machine.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target
# Both sides of a ratio on one thread of arithmetic, unless asked otherwise.
export CANDLE_NUM_THREADS=${CANDLE_NUM_THREADS:-1} RAYON_NUM_THREADS=${RAYON_NUM_THREADS:-1}
status=0
cargo bench --workspace --bench chain --bench patterns --bench request_path --bench live --bench batching --bench decode --bench serving --bench soak "$@" 2>&1 |
  tee target/bench.log || status=${PIPESTATUS[0]}
# What is no number, NaN for example, meets no goal.
awk '
  $1 == "ratio" && $4 == "goal" && NF == 6 {
    met = 0
    if ($3 ~ /^-?[0-9]+(\.[0-9]+)?$/) {
      value = $3 + 0
      goal = $6 + 0
      met = $5 == "<=" ? value <= goal : $5 == ">=" ? value >= goal : $5 == "<" ? value < goal : $5 == ">" ? value > goal : 0
    }
    name[++rows] = $2
    figure[rows] = $3
    wanted[rows] = $5 " " $6
    answer[rows] = met ? "met" : "MISSED"
    if (length($2) > width) width = length($2)
  }
  END {
    if (rows) printf "\n%-" width "s  %10s  %s\n", "name", "value", "goal"
    for (at = 1; at <= rows; at++)
      printf "%-" width "s  %10s  %-10s  %s\n", name[at], figure[at], wanted[at], answer[at]
  }
' target/bench.log
exit "$status"
