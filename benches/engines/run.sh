#!/usr/bin/env bash
# Measures the engine against llama.cpp, with one thread each: see benches/engines.rs. The first run compiles llama.cpp.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/model.sh
venv=target/engines/venv
if ! cmp -s benches/engines/requirements.txt "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r benches/engines/requirements.txt
  cp benches/engines/requirements.txt "$venv/installed.txt"
fi
CANDLE_NUM_THREADS=1 RAYON_NUM_THREADS=1 exec cargo bench --workspace --bench engines
