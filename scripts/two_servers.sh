#!/bin/bash
# Two Prover Servers on one PostgreSQL database, one of them killed with SIGKILL every five seconds: every block must be
# proven exactly once. Needs PostgreSQL (make setup); starts one of its own, in a temporary folder.
#
#   scripts/two_servers.sh PATH/TO/l2-prover [SECONDS]
set -euo pipefail

prover=$(realpath "${1:?usage: $0 PATH/TO/l2-prover [SECONDS]}")
seconds=${2:-120}
patience=60
source "$(dirname "$0")/common.sh"
start_postgres

node_port=$(free_port)
start_node "$prover"
until_true "the node answers" head_block

where=(--data-dir "$folder/shared" --database "postgres://prover@127.0.0.1:$database_port/postgres")
declare -A ports=([1]=$(free_port) [2]=$(free_port))
start_server() {
    "$prover" server --prover exec --danger-accept-exec --lease 10s --rpc-url "http://127.0.0.1:$node_port" \
        --listen-port "${ports[$1]}" "${where[@]}" >>"server-$1.log" 2>&1 &
    pids[server$1]=$!
}
answers() { curl -sf "http://127.0.0.1:${ports[$1]}/livez"; }
for server in 1 2; do start_server $server; done
for server in 1 2; do until_true "server $server answers" "answers $server"; done
for client in 1 2 3 4; do
    "$prover" client --prover exec --server "http://127.0.0.1:${ports[$((client % 2 + 1))]}" \
        --data-dir "$folder/client-$client" >"client-$client.log" 2>&1 &
    pids[client$client]=$!
done

kills=0
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
    sleep 5
    victim=$((kills % 2 + 1))
    kill -9 "${pids[server$victim]}"
    wait "${pids[server$victim]}" 2>/dev/null || true
    kills=$((kills + 1))
    start_server $victim
    until_true "server $victim is back" "answers $victim"
done

echo "servers killed $kills"
proven_once
"$prover" fsck "${where[@]}"
