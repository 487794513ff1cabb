#!/usr/bin/env bash
# Compiles and links the `cuda` feature on a machine that has neither a GPU nor NVIDIA's files.
#
# candle's kernels need nvcc and its binary links the CUDA libraries. This makes a stand-in for both: a compiler that writes empty
# kernels, and archives whose functions look for the real library when the program starts and fail cleanly when it is not there.
# What it proves: the code behind the feature compiles, links, and starts without a driver. It computes nothing. With `--types`, only
# the engine and its tests go through clippy, which takes a fraction of the time.
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$PWD/target/cuda-tree
mkdir -p "$tree/bin" "$tree/lib"
cargo fetch --locked --quiet
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
cudarc=$(ls -d "$registry"/*/cudarc-0.19.*/src | tail -1)

# archive NAME SONAME ERROR MODULE PREFIX: every function of cudarc's bindings, forwarding to SONAME or returning ERROR.
archive() {
  local work=$tree/work/$1
  mkdir -p "$work"
  grep -hoP "pub unsafe fn \K(?:$5)\w+(?=\()" "$cudarc/$4/sys/mod.rs" | sort -u >"$work/names"
  {
    printf '#include <dlfcn.h>\nstatic int missing(void) { return %s; }\n' "$3"
    printf 'void *shim_%s[%d];\nstatic const char *names[] = {\n' "$1" "$(wc -l <"$work/names")"
    sed 's/.*/  "&",/' "$work/names"
    printf '  0};\n__attribute__((constructor(101))) static void fill(void) {\n'
    printf '  void *library = dlopen("%s", RTLD_LAZY | RTLD_GLOBAL);\n' "$2"
    printf '  for (int i = 0; names[i]; i++) {\n    void *it = library ? dlsym(library, names[i]) : 0;\n'
    printf '    shim_%s[i] = it ? it : (void *)missing;\n  }\n}\n' "$1"
  } >"$work/fill.c"
  {
    echo '.text'
    awk -v table="shim_$1" '{printf ".globl %s\n.type %s,@function\n%s: jmp *(%s+%d)(%%rip)\n", $1, $1, $1, table, 8 * (NR - 1)}' \
      "$work/names"
    echo '.section .note.GNU-stack,"",@progbits'
  } >"$work/jump.s"
  cc -O1 -fPIC -c -o "$work/fill.o" "$work/fill.c"
  cc -c -o "$work/jump.o" "$work/jump.s"
  ld -r -o "$work/all.o" "$work/fill.o" "$work/jump.o"
  rm -f "$tree/lib/lib$1.a"
  ar crs "$tree/lib/lib$1.a" "$work/all.o"
}
archive cuda libcuda.so.1 100 driver cu
archive nvrtc libnvrtc.so.13 1 nvrtc nvrtc
archive curand libcurand.so.10 203 curand curand
archive cublas libcublas.so.13 1 cublas cublas
archive cublasLt libcublasLt.so.13 1 cublaslt cublas
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

export CUDA_HOME=$tree CUDA_PATH=$tree NVCC=$tree/bin/nvcc PATH=$tree/bin:$PATH CUDA_COMPUTE_CAP=90
# A folder of its own: candle's kernel cache does not notice another nvcc.
if [ "${1:-}" = --types ]; then
  exec cargo clippy --locked --release -p engine --features cuda --all-targets --target-dir target/cuda -- -D warnings
fi
cargo build --locked --release --features cuda --target-dir target/cuda
program=target/cuda/release/bucksaw
if readelf -d "$program" | grep -i 'NEEDED.*\(cuda\|cublas\|curand\|nvrtc\)'; then
  echo "$program needs the CUDA libraries above to start" >&2
  exit 1
fi
"$program" check >/dev/null
echo "the cuda feature compiles, links, and starts without a driver"
