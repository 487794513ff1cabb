#!/usr/bin/env bash
# Other people's clients against a Bucksaw server: see README.md.
#   tests/clients/run.sh [path of bucksaw] [openai-python | python | node]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bucksaw=$(realpath "${1:-$root/target/release/bucksaw}")
only=${2:-all}
work=$root/target/clients
mkdir -p "$work"

# A server in a folder of its own, on a port that the system chooses.
rm -rf "$work/server"
mkdir -p "$work/server"
cp "$here/bucksaw.toml" "$work/server/"
(cd "$work/server" && exec "$bucksaw" serve --config bucksaw.toml >stdout 2>stderr) &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
address=
for _ in $(seq 300); do
    address=$(grep -ho 'http://127\.0\.0\.1:[0-9]*' "$work/server/stderr" "$work/server/stdout" | head -n 1) && break
    kill -0 "$server" 2>/dev/null || { cat "$work/server/stderr" >&2; exit 1; }
    sleep 0.1
done
[ -n "$address" ] || { echo "the server does not listen: see $work/server/stderr" >&2; exit 1; }
echo "Bucksaw on $address"

# A virtual environment with what a file of requirements names; made anew when the file has changed.
environment() {
    local name=$1 requirements=$2
    if ! cmp -s "$requirements" "$work/$name/requirements"; then
        rm -rf "${work:?}/$name"
        python3 -m venv "$work/$name"
        "$work/$name/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
        cp "$requirements" "$work/$name/requirements"
    fi
}

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
