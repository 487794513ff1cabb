# Sourced by cuda-check.sh and cuda-build.sh: what stands in for the CUDA libraries when the program is linked. On x86-64.
#
# candle links the libraries by name, so a program that was linked with them does not start where one is missing. The linker takes
# an archive in place of a library that it does not find, and these archives hold each function of cudarc's bindings as a jump into
# the real library, which they look for when the program starts. Where it is missing, each call answers with an error of its own
# library, and candle says that there is no device.

# archive NAME SONAME ERROR MODULE PREFIX: lib/libNAME.a in $tree, out of the functions with this prefix in the bindings in $cudarc.
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

# stand_ins FOLDER MAJOR: makes FOLDER the place where builds look for CUDA, with archives for the libraries of this major version.
stand_ins() {
  tree=$1
  mkdir -p "$tree/bin" "$tree/lib"
  ln -sfn lib "$tree/lib64"
  if [ -z "${cudarc:-}" ]; then
    cargo fetch --locked --quiet
    cudarc=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-0.19.*/src | tail -1)
  fi
  archive cuda libcuda.so.1 100 driver cu
  archive nvrtc "libnvrtc.so.$2" 1 nvrtc nvrtc
  archive curand libcurand.so.10 203 curand curand
  archive cublas "libcublas.so.$2" 1 cublas cublas
  archive cublasLt "libcublasLt.so.$2" 1 cublaslt cublas
  archive cudnn libcudnn.so.9 1001 cudnn cudnn
  # Any of them would add its own folder, with libraries that the linker prefers to archives.
  unset CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR CUDNN_LIB
  export CUDA_HOME=$tree CUDA_PATH=$tree NVCC=$tree/bin/nvcc PATH=$tree/bin:$PATH
}

# portable PROGRAM: fails if it needs one of the libraries to start, or does not start.
portable() {
  if readelf -d "$1" | grep -i 'NEEDED.*\(cuda\|cublas\|cudnn\|curand\|nvrtc\)'; then
    echo "$1 needs the CUDA libraries above to start" >&2
    return 1
  fi
  "$1" check >/dev/null
}
