#!/usr/bin/env bash
# run.sh [--smoke]: builds all peers, runs them on the same records, and prints one table and the ratios.
# One that cannot be built or installed is shown in the table with the reason; the whole output is in target/peers/logs.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
folder=$root/target/peers
wasm=wasm32-unknown-unknown
mkdir -p "$folder"/{guests,logs,reasons}
rm -f "$folder"/guests/* "$folder"/reasons/*

# attempt NAME COMMAND...: whether the command works; why not stands in reasons/NAME.
attempt() {
  local name=$1 log=$folder/logs/$1.log
  shift
  echo "peers: $name" >&2
  if "$@" >"$log" 2>&1; then
    return
  fi
  { grep -m1 -i '^error' "$log" || tail -n1 "$log"; } >"$folder/reasons/$name"
  return 1
}

# guest PACKAGE FEATURE [FLAG...]: builds a guest with one way of finding values, for guests/PACKAGE-FEATURE.wasm.
guest() {
  local package=$1 feature=$2
  shift 2
  "$CARGO" rustc --package "$package" --lib --no-default-features --features "$feature" --profile guest \
    --target $wasm --target-dir "$folder/wasm" -- "$@" &&
    cp "$folder/wasm/$wasm/guest/${package//-/_}.wasm" "$folder/guests/$package-$feature.wasm"
}

# A subshell: what builds guests must not build the rest.
guests() (
  if ! attempt toolchain "$root/scripts/wasm-toolchain.sh" "$root/target/wasm"; then
    for it in {smg,extism}-guest-{rules,scanner}; do cp "$folder/reasons/toolchain" "$folder/reasons/$it"; done
    return
  fi
  eval "$(grep '^export ' "$folder/logs/toolchain.log")"
  for it in rules scanner; do
    attempt smg-guest-$it guest smg-guest $it || true
    # Extism takes a core module, and this linker would make a component of it.
    attempt extism-guest-$it guest extism-guest $it -C link-arg=--skip-wit-component || true
  done
)

# Presidio with its packages, anew only when they change.
presidio() {
  local venv=$folder/venv
  if cmp -s presidio/requirements.txt "$venv/installed.txt"; then
    return
  fi
  rm -rf "$venv" && python3 -m venv "$venv" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r presidio/requirements.txt &&
    cp presidio/requirements.txt "$venv/installed.txt"
}

# The peers that are crates: all at once, or else those that build alone.
crates() {
  local built='' it
  if cargo build --release; then
    return
  fi
  for it in dd-sds extism smg-wasm vrl; do
    if attempt $it cargo build --release --no-default-features --features $it; then
      built+=$it,
    fi
  done
  cargo build --release --no-default-features --features "$built"
}

guests
attempt presidio presidio || rm -rf "$folder/venv"
crates
# glibc gives the end of its heap back to the system and takes it again, a page fault for each page, or not, as other things happen to
# lie there: twice the time for records of 10 kB in one run and not in the next. Here it keeps what it has, for all peers.
export GLIBC_TUNABLES=glibc.malloc.trim_threshold=$((1 << 30)):glibc.malloc.mmap_threshold=$((32 << 20))
exec "$folder/release/peers" "$folder" "$@"
