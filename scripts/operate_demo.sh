#!/bin/bash
# Runs a dev node, a Prover Server and two Prover Clients with the exec prover, runs an operator's
# commands against them, and writes their output into docs/operate.md. Needs only the built command,
# curl and python3.
#
#   scripts/operate_demo.sh PATH/TO/l2-prover
#
# PAGE: another page than docs/operate.md.
set -euo pipefail

prover=$(realpath "${1:?usage: $0 PATH/TO/l2-prover}")
page=${PAGE:-$(dirname "$(realpath "$0")")/../docs/operate.md}
folder=$(mktemp -d)
declare -A pids

cleanup() {
    { kill "${pids[@]}" && wait "${pids[@]}"; } 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Runs `$2` until it succeeds, for at most a minute.
until_true() {
    for _ in $(seq 600); do
        if eval "$2" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "it never came true that $1" >&2
    exit 1
}

# demo NAME COMMAND…: runs an operator's command and writes it, with its output, into the page.
demo() {
    local name=$1
    shift
    local shown="$*"
    shown=${shown//$prover/l2-prover}
    shown=${shown// --server $server/}
    shown=${shown//$server/http://127.0.0.1:3900}
    shown=${shown//$folder\//}
    { echo "\$ $shown" && "$@" 2>&1 | sed 's/ *$//'; } >shown.txt || true
    python3 - "$page" "$name" shown.txt <<'PYTHON'
import pathlib, sys
page, name, shown = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]).read_text()
text, mark = page.read_text(), f"<!-- demo: {name} -->\n"
start = text.index(mark) + len(mark)
end = text.index("<!-- end -->", start)
page.write_text(text[:start] + "```console\n" + shown.rstrip("\n") + "\n```\n" + text[end:])
PYTHON
}

port=$(free_port)
server=http://127.0.0.1:$port
node_port=$(free_port)
"$prover" node --node-port "$node_port" --block-time 1s >node.log 2>&1 &
pids[node]=$!
until_true "the node answers" "curl -s http://127.0.0.1:$node_port"
"$prover" server --prover exec --danger-accept-exec --rpc-url "http://127.0.0.1:$node_port" --listen-port "$port" \
    --data-dir server >server.log 2>&1 &
pids[server]=$!
until_true "the server is ready" "curl -sf $server/readyz"
for client in 1 2; do
    "$prover" client --prover exec --name "gpu-$client" --server "$server" --data-dir "client-$client" >"client-$client.log" 2>&1 &
    pids[client$client]=$!
done
proved() { "$prover" status --server "$server" --json | python3 -c "import json, sys; sys.exit(json.load(sys.stdin)['jobs']['proved'] < 8)"; }
until_true "eight jobs are proved" proved

on=(--server "$server")
demo status "$prover" status "${on[@]}"
demo top "$prover" top --once "${on[@]}"
demo "clients list" "$prover" clients list "${on[@]}"
client=$(cat client-1/client-id)
demo "clients show" "$prover" clients show "$client" "${on[@]}"
demo "clients quarantine" "$prover" clients quarantine "$client" "${on[@]}"
demo "clients release" "$prover" clients release "$client" "${on[@]}"
demo "clients drain" "$prover" clients drain --all "${on[@]}"
demo readyz curl -s "$server/readyz"
waiting() { [ "$("$prover" jobs list --state ready "${on[@]}" --json)" != "[]" ]; }
until_true "a job waits" waiting
demo "jobs list" "$prover" jobs list --state ready "${on[@]}"
job=$("$prover" jobs list --state ready "${on[@]}" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["job"])')
demo "jobs show" "$prover" jobs show "$job" "${on[@]}"
demo "jobs cancel" "$prover" jobs cancel "$job" "${on[@]}"
demo "failures list" "$prover" failures list "${on[@]}"
demo "failures export" "$prover" failures export "$job" --out failure "${on[@]}"
demo "failures replay" "$prover" failures replay failure
demo "jobs requeue" "$prover" jobs requeue "$job" "${on[@]}"
demo "jobs prioritise" "$prover" jobs prioritise "$job" 10 "${on[@]}"
demo "jobs cancel many" "$prover" jobs cancel --block 10..20 --dry-run "${on[@]}"
demo audit "$prover" audit "${on[@]}"
demo "proofs verify" "$prover" proofs verify --block 1..8 --danger-accept-exec "${on[@]}"
demo "proofs export" "$prover" proofs export --block 1..2 --out proofs "${on[@]}"
demo gc "$prover" gc --dry-run --older-than 0s "${on[@]}"
demo backup "$prover" backup --data-dir server --out backup
kill "${pids[client1]}" "${pids[client2]}" "${pids[server]}"
wait "${pids[client1]}" "${pids[client2]}" "${pids[server]}" || true
unset "pids[client1]" "pids[client2]" "pids[server]"
demo fsck "$prover" fsck --data-dir server
demo "tokens create" "$prover" tokens create --name gpu-1 --role client --data-dir server
token=$("$prover" tokens list --data-dir server --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])')
demo "tokens rotate" "$prover" tokens rotate "$token" --data-dir server
demo "tokens revoke" "$prover" tokens revoke "$token" --data-dir server
demo "tokens list" "$prover" tokens list --data-dir server
cat >server.toml <<'TOML'
rpc_url = ["https://user:secret@node-1.example", "https://node-2.example"]
database = "postgres://prover:secret@db.example/jobs"
batch_blocks = 16
[limits]
connections = 500
TOML
demo "config check" "$prover" config check --config server.toml
