# What the scripts here share; they set $bucksaw and $work first.

# serve CONFIG: a server in a folder of its own, on a port that the system chooses; its URL is in $address. It ends with the script.
serve() {
    rm -rf "$work/server"
    mkdir -p "$work/server"
    cp "$1" "$work/server/bucksaw.toml"
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
}

# environment NAME REQUIREMENTS: a virtual environment with what a file names; made anew when the file has changed.
environment() {
    local name=$1 requirements=$2
    if ! cmp -s "$requirements" "$work/$name/requirements"; then
        rm -rf "${work:?}/$name"
        python3 -m venv "$work/$name"
        "$work/$name/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
        cp "$requirements" "$work/$name/requirements"
    fi
}
