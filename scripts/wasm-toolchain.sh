#!/usr/bin/env bash
# wasm-toolchain.sh FOLDER: prints what to export before plugins can be built, and prepares it in FOLDER.
#
# - Where `rustup target add wasm32-unknown-unknown` was run, that is used.
# - Else, on Debian and its kin, the matched packages rustc-web, cargo-web and rust-web-src build the standard library once
#   (two minutes). rustup's compiler cannot build Debian's sources: their versions differ.
#
# Either way the linker is rustup's own wasm-component-ld, so that what cargo writes is already a component.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
target=wasm32-unknown-unknown
# A guest's text scanning is vectorised; wasmtime runs these instructions everywhere.
flags="-C target-feature=+simd128"

crates=${CARGO_HOME:-$HOME/.cargo}
project=$(cd "$(dirname "$0")/.." && pwd)

sysroot=$(rustc --print sysroot)
host=$(rustc -vV | sed -n 's/^host: //p')
tools=$sysroot/lib/rustlib/$host/bin
if [ ! -x "$tools/wasm-component-ld" ]; then
  echo "no wasm-component-ld beside rustc ($tools): plugins are built with a rustup toolchain of 1.82 or later" >&2
  exit 1
fi

# Paths of this machine stand in scripts and not in flags, which cargo mixes into the names of symbols.
# compiler COMMAND...: messages of panics name source files, but no folder of this machine, so that the same sources give the
# same bytes. Which registry a crate came from shows in a folder's name that is not known before the first download.
compiler() {
  printf '#!/usr/bin/env bash\nset -- "$@" "--remap-path-prefix=%s=/bucksaw"\n' "$project" >"$folder/rustc"
  printf 'for it in "%s"/registry/src/*; do set -- "$@" "--remap-path-prefix=$it=/crates"; done\n' "$crates" >>"$folder/rustc"
  printf 'exec %s\n' "$*" >>"$folder/rustc"
  chmod +x "$folder/rustc"
}
cat >"$folder/linker" <<EOF
#!/usr/bin/env bash
exec "$tools/wasm-component-ld" "\$@" --wasm-ld-path "$tools/gcc-ld/wasm-ld"
EOF
chmod +x "$folder/linker"
echo "export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER='$folder/linker'"
echo "export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS='$flags' RUSTC='$folder/rustc'"

if [ -d "$sysroot/lib/rustlib/$target" ]; then
  compiler "'$(rustup which rustc 2>/dev/null || command -v rustc)'" '"$@"'
  echo "export CARGO=cargo"
  exit
fi

packages="rustc-web cargo-web rust-web-src"
if [ ! -x /usr/bin/cargo ] || [ ! -d /usr/lib/rustlib/src/rust/library ]; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "no standard library for $target: run 'rustup target add $target', or as root 'apt-get install $packages'" >&2
    exit 1
  fi
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $packages; } >&2
fi
std=$folder/sysroot/lib/rustlib/$target/lib
if [ ! -d "$std" ]; then
  probe=$(mktemp -d)
  mkdir -p "$probe/src" "$std.new"
  printf '[package]\nname = "probe"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$probe/Cargo.toml"
  : >"$probe/src/lib.rs"
  compiler /usr/bin/rustc '"$@"'
  (cd "$probe" && RUSTC_BOOTSTRAP=1 RUSTC="$folder/rustc" RUSTFLAGS="-C embed-bitcode=yes $flags" \
    CARGO_TARGET_DIR="$probe/target" /usr/bin/cargo build -q --release --target $target \
    -Z build-std=std,panic_abort) >&2
  cp "$probe/target/$target/release/deps/"*.rlib "$std.new/"
  rm -f "$std.new"/libprobe*
  mv "$std.new" "$std"
  ln -sfn /usr/lib/rustlib/"$host" "$folder/sysroot/lib/rustlib/$host"
  rm -r "$probe"
fi
compiler /usr/bin/rustc '"$@"' "'--sysroot=$folder/sysroot'"
echo "export CARGO=/usr/bin/cargo"
