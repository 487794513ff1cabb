#!/usr/bin/env bash
# Measures the engine against llama.cpp and mistral.rs, with one thread each: see benches/engines.rs. The first run compiles both for
# this machine: minutes for the one, the better part of an hour on two cores for the other. Without mistral.rs
# (BUCKSAW_ENGINES=llama.cpp, or where it cannot be built) the rest is measured.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/model.sh
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
folder=target/engines
venv=$folder/venv
if ! cmp -s benches/engines/requirements.txt "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  # AMX is announced by virtual machines that do not allow it, and llama.cpp takes it at its word. A wheel from a cache may have it.
  no_amx='-mno-amx-tile -mno-amx-int8 -mno-amx-bf16'
  CFLAGS=$no_amx CXXFLAGS=$no_amx "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
    -r benches/engines/requirements.txt
  cp benches/engines/requirements.txt "$venv/installed.txt"
fi
# It lists every tensor.
"$venv/bin/python" benches/engines/quantize.py "$model" "$folder/models" 2>"$folder/quantize.log" || {
  tail -n 3 "$folder/quantize.log" >&2
  exit 1
}
if [ "${BUCKSAW_ENGINES:-all}" = all ]; then
  RUSTFLAGS='-C target-cpu=native' cargo build --release --locked \
    --manifest-path benches/engines/mistralrs/Cargo.toml --target-dir "$folder/mistralrs" ||
    echo "mistral.rs is left out: it cannot be built here" >&2
fi
CANDLE_NUM_THREADS=1 RAYON_NUM_THREADS=1 exec cargo bench --workspace --bench engines
