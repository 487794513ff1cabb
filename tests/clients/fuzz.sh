#!/usr/bin/env bash
# A fuzzing client against the specification that a server serves: no answer may be a server's error, or another one than it
# says. See README.md.
#   tests/clients/fuzz.sh [path of bucksaw] [flags of schemathesis run]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bucksaw=$(realpath "${1:-$root/target/release/bucksaw}")
shift || true
work=$root/target/clients
. "$here/common.sh"

serve "$here/fuzz.toml"
environment fuzz "$here/fuzz.txt"
# What is ignored (a parameter beside a prompt, a query beside JSON) is no error, so that nothing is said of bad data here:
# tests/it/openapi.rs holds each documented type and bound against the server.
cd "$work/server"
NO_PROXY=127.0.0.1 "$work/fuzz/bin/schemathesis" run "$address/openapi.json" --request-timeout 60 --continue-on-failure \
    --phases coverage,fuzzing --max-examples 50 --warnings off \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method \
    "$@"
