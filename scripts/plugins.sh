#!/usr/bin/env bash
# plugins.sh [--check]: builds every guest to a component; with --check, compares with what is committed instead of writing.
# Folders that are libraries (sdk, deeds) are left out. Plugins that ship go to plugins/components, the tests' own guests to tests/fixtures/components.
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
names() { for it in "$1"/*/Cargo.toml; do basename "$(dirname "$it")"; done | grep -Ev '^(sdk|deeds)$'; }

exports=$(scripts/wasm-toolchain.sh target/wasm)
eval "$exports"
build() { "$CARGO" build --quiet --profile guest --target $target --target-dir target/guests "$@"; }
# Built alone, since features of the SDK hold for all guests of one build, and only this one makes requests.
build -p caller
build $(printf -- '-p %s ' $(names plugins) $(names tests/fixtures/guests | grep -v '^caller$'))

# Another compiler writes other bytes from the same sources: they are compared only with its like.
compiler=$("${RUSTC:-rustc}" -V)
stamp=plugins/components/compiler.txt
if [ "${1:-}" != --check ]; then
  echo "$compiler" >$stamp
elif [ "$compiler" != "$(cat $stamp)" ]; then
  echo "plugins build; they are not compared, since the committed ones come from $(cat $stamp) and this is $compiler"
  exit
fi

status=0
deliver() { # FOLDER NAME...
  local folder=$1 name built
  shift
  mkdir -p "$folder"
  for name in "$@"; do
    built=target/guests/$target/guest/$name.wasm
    if [ "$check" != --check ]; then
      cp "$built" "$folder/$name.wasm"
      printf '%8d bytes  %s/%s.wasm\n' "$(stat -c %s "$built")" "$folder" "$name"
    elif ! cmp -s "$built" "$folder/$name.wasm"; then
      echo "$folder/$name.wasm is not what its sources give: run 'just plugins' and commit it" >&2
      status=1
    fi
  done
}
check=${1:-}
deliver plugins/components $(names plugins)
deliver tests/fixtures/components $(names tests/fixtures/guests)
exit $status
