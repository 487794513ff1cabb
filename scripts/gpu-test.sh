#!/usr/bin/env bash
# The engine's tests on a GPU, with the real CUDA toolkit; where one of the two is missing, a sentence and no failure.
# `FEATURES=flash-attn` tests the kernels of that feature, which take hours to build.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() {
  echo "skipped: $1" >&2
  exit 0
}
command -v nvidia-smi >/dev/null || skip "no NVIDIA driver here (nvidia-smi is not found)"
nvidia-smi -L 2>/dev/null | grep -q '^GPU' || skip "the NVIDIA driver finds no GPU"
command -v "${NVCC:-nvcc}" >/dev/null || skip "no CUDA toolkit here (nvcc is not found)"
# A folder of its own: candle's kernel cache does not notice another nvcc.
exec cargo test --locked --release -p engine --features "${FEATURES:-cuda}" --target-dir target/gpu --test gpu -- --test-threads=1 --nocapture
