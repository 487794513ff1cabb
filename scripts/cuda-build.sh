#!/usr/bin/env bash
# Builds one program for machines with a GPU and without: real kernels, by the CUDA toolkit that is here, and the CUDA libraries
# looked for when the program starts. Needs no GPU; `CUDA_COMPUTE_CAP` says for which one it is (80, 90, …). `FEATURES=cudnn` as well.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/cuda-tree.sh
. scripts/cuda-tree.sh
fail() {
  echo "$1" >&2
  exit 1
}
[ "$(uname -m)" = x86_64 ] || fail "what stands in for the CUDA libraries is written for x86-64"
nvcc=$(command -v "${NVCC:-nvcc}") || fail "no CUDA toolkit here: nvcc is not found; put it on the PATH, or name it in NVCC"
toolkit=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$nvcc")")")}
[ -f "$toolkit/include/cuda.h" ] || fail "$toolkit has no include/cuda.h; set CUDA_HOME to the toolkit's folder"
runtime=$(find -L "$toolkit" -name libcudart_static.a -print -quit)
[ -n "$runtime" ] || fail "$toolkit has no libcudart_static.a; install the toolkit's runtime for developers"
release=$("$nvcc" --version | grep -oP 'release \K[0-9]+(?=\.)') || fail "$nvcc does not say its release"
if [ -z "${CUDA_COMPUTE_CAP:-}" ]; then
  nvidia-smi -L 2>/dev/null | grep -q '^GPU' ||
    fail "for which GPUs? There is none here to ask: set CUDA_COMPUTE_CAP, 90 for an H100, 80 for an A100"
fi

stand_ins "$PWD/target/cuda-portable/tree" "$release"
# Linked whole: it is small, and asks the driver for everything itself.
cp -f "$runtime" "$tree/lib/libcudart.a"
ln -sfn "$(readlink -f "$toolkit/include")" "$tree/include"
[ ! -d "$toolkit/nvvm" ] || ln -sfn "$(readlink -f "$toolkit/nvvm")" "$tree/nvvm"
# Not a link: nvcc looks for its parts beside the path by which it was called.
printf '#!/usr/bin/env bash\nexec %q "$@"\n' "$nvcc" >"$tree/bin/nvcc"
chmod +x "$tree/bin/nvcc"

# A folder of its own: candle's kernel cache does not notice another nvcc.
cargo build --locked --release --features "${FEATURES:-cuda}" --target-dir target/cuda-portable
program=target/cuda-portable/release/bucksaw
portable "$program"
echo "$program starts with and without a driver; on a GPU it looks for libcublas.so.$release, libcublasLt.so.$release,"
echo "libcurand.so.10 and libnvrtc.so.$release where the system does: ldconfig, LD_LIBRARY_PATH"
