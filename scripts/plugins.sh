#!/usr/bin/env bash
# plugins.sh [--check]: builds every plugin to plugins/components/NAME.wasm; with --check, compares instead of writing.
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
names=$(cd plugins && for it in */Cargo.toml; do dirname "$it"; done | grep -v '^sdk$')

exports=$(scripts/wasm-toolchain.sh target/wasm)
eval "$exports"
# The same paths on every machine, so that the same sources give the same bytes.
remap="--remap-path-prefix=$PWD=/bucksaw --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS $remap"
"$CARGO" build --locked --quiet --profile guest --target $target --target-dir target/guests \
  $(printf -- '-p %s ' $names)

built=target/guests/$target/guest
mkdir -p plugins/components
status=0
for name in $names; do
  if [ "${1:-}" != --check ]; then
    cp "$built/$name.wasm" "plugins/components/$name.wasm"
    printf '%8d bytes  plugins/components/%s.wasm\n' "$(stat -c %s "$built/$name.wasm")" "$name"
  elif ! cmp -s "$built/$name.wasm" "plugins/components/$name.wasm"; then
    echo "plugins/components/$name.wasm is not what its sources give: run 'just plugins' and commit it" >&2
    status=1
  fi
done
exit $status
