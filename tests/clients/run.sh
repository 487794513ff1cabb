#!/usr/bin/env bash
# Other people's clients against a Bucksaw server: see README.md.
#   tests/clients/run.sh [path of bucksaw] [openai-python | python | node]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bucksaw=$(realpath "${1:-$root/target/release/bucksaw}")
only=${2:-all}
work=$root/target/clients
. "$here/common.sh"

serve "$here/bucksaw.toml"

failed=0
wants() { [ "$only" = all ] || [ "$only" = "$1" ]; }

if wants openai-python; then
    echo "== openai-python's own tests"
    environment openai-python "$here/openai-python.txt"
    version=$(sed -n 's/^openai.*==//p' "$here/openai-python.txt")
    source=$work/openai-$version
    if [ ! -d "$source" ]; then
        "$work/openai-python/bin/pip" download --quiet --disable-pip-version-check --no-deps \
            --no-binary openai "openai==$version" -d "$work"
        tar -xzf "$work/openai-$version.tar.gz" -C "$work"
    fi
    # Its requests go to the server and nowhere else: no proxy for them.
    (cd "$source" && NO_PROXY=127.0.0.1 TEST_API_BASE_URL="$address/v1" \
        PYTHONPATH="$here" STORE="$work/server/completions.db" PYTHONDONTWRITEBYTECODE=1 \
        "$work/openai-python/bin/python" -m pytest -p stored_completion -n 0 -q --no-header -p no:cacheprovider \
        tests/api_resources/chat/test_completions.py tests/api_resources/test_completions.py \
        tests/api_resources/test_models.py tests/api_resources/test_embeddings.py \
        --tb=line -rf) || failed=1
fi

if wants python; then
    echo "== LiteLLM and LangChain"
    environment python "$here/python-clients.txt"
    # LiteLLM would fetch prices of models first.
    NO_PROXY=127.0.0.1 LITELLM_LOCAL_MODEL_COST_MAP=True "$work/python/bin/python" "$here/python_clients.py" "$address/v1" || failed=1
fi

if wants node; then
    echo "== openai-node"
    mkdir -p "$work/node"
    if ! cmp -s "$here/package.json" "$work/node/package.json" || [ ! -d "$work/node/node_modules" ]; then
        cp "$here/package.json" "$work/node/"
        (cd "$work/node" && npm install --silent --no-audit --no-fund --no-package-lock)
    fi
    cp "$here/node_client.mjs" "$work/node/"
    (cd "$work/node" && NO_PROXY=127.0.0.1 node node_client.mjs "$address/v1") || failed=1
fi

exit "$failed"
