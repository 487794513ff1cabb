#!/usr/bin/env bash
# Compiles and links the `cuda` feature on a machine that has neither a GPU nor NVIDIA's files.
#
# candle's kernels need nvcc and its binary links the CUDA libraries. This makes a stand-in for both: a compiler that writes empty
# kernels, and archives whose functions look for the real library when the program starts and fail cleanly when it is not there.
# What it proves: the code behind the feature compiles, links, and starts without a driver. It computes nothing. `FEATURES=cudnn` and
# `FEATURES=flash-attn` do the same for these features. With `--types`, only the engine and its tests go through clippy, with all
# features at once, which takes a fraction of the time.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/cuda-tree.sh
. scripts/cuda-tree.sh
stand_ins "$PWD/target/cuda-tree" 13
ar crs "$tree/lib/libcudart.a"

cat >"$tree/bin/nvcc" <<'EOF'
#!/usr/bin/env bash
# Stands in for nvcc 13.0: kernels without instructions, launchers that abort.
out= folder= mode= last=
while [ $# -gt 0 ]; do
  case "$1" in
    --version) printf 'nvcc\n\n\nCuda compilation tools, release 13.0, V13.0.88\n'; exit ;;
    --list-gpu-code) printf 'sm_80\nsm_90\n'; exit ;;
    -o) out=$2; shift ;;
    --output-directory) folder=$2; shift ;;
    --ptx) mode=ptx ;;
    -c) mode=object ;;
    --lib) mode=archive ;;
    *) last=$1 ;;
  esac
  shift
done
case $mode in
  ptx) printf '.version 8.0\n.target sm_80\n.address_size 64\n' >"$folder/$(basename "$last" .cu).ptx" ;;
  object) echo | cc -x c -c -o "$out" - ;;
  archive)
    { echo 'void abort(void);'; grep -rhoP 'fn \K\w+(?=\()' src/ffi.rs | sort -u | sed 's/.*/void &(void) { abort(); }/'; } |
      cc -x c -fPIC -c -o "$out.o" -
    rm -f "$out"
    ar crs "$out" "$out.o"
    ;;
esac
EOF
chmod +x "$tree/bin/nvcc"

# candle-flash-attn asks for CUTLASS at one commit, which would be cloned. Headers that nobody reads need not be there.
manifest=$(cargo metadata --locked --format-version 1 --features flash-attn | grep -oP '"manifest_path":"\K[^"]*/candle-flash-attn-[^"]*')
commit=$(grep -oP 'CUTLASS_COMMIT: &str = "\K\w+' "$(dirname "$manifest")/build.rs")
export CUDAFORGE_HOME=$tree/cudaforge
cutlass=$CUDAFORGE_HOME/git/checkouts/cutlass-${commit:0:16}
mkdir -p "$cutlass/include"
git -C "$cutlass" init --quiet
echo "$commit" >"$cutlass/.git/HEAD"

export CUDA_COMPUTE_CAP=90
# A folder of its own: candle's kernel cache does not notice another nvcc.
if [ "${1:-}" = --types ]; then
  exec cargo clippy --locked --release -p engine --features "${FEATURES:-cudnn,flash-attn}" --all-targets --target-dir target/cuda -- -D warnings
fi
features=${FEATURES:-cuda}
cargo build --locked --release --features "$features" --target-dir target/cuda
program=target/cuda/release/bucksaw
portable "$program"
echo "the feature $features compiles, links, and starts without a driver"
