#!/bin/bash
# An upgrade without a stop: two Prover Servers of an old version on one PostgreSQL database, clients at work. `migrate` of the new
# version changes the database under them; then each server, and each client, is replaced by one of the new version. No request may fail
# for more than five seconds, and every block must be proven exactly once. Needs PostgreSQL (make setup); starts one of its own, in a temporary folder.
#
#   scripts/upgrade.sh PATH/TO/OLD/l2-prover PATH/TO/NEW/l2-prover
set -euo pipefail

old=$(realpath "${1:?usage: $0 PATH/TO/OLD/l2-prover PATH/TO/NEW/l2-prover}")
new=$(realpath "${2:?usage: $0 PATH/TO/OLD/l2-prover PATH/TO/NEW/l2-prover}")
patience=60
source "$(dirname "$0")/common.sh"
start_postgres

node_port=$(free_port)
start_node "$new"
until_true "the node answers" head_block

where=(--data-dir "$folder/shared" --database "postgres://prover@127.0.0.1:$database_port/postgres")
declare -A ports=([1]=$(free_port) [2]=$(free_port))
start_server() {
    "$2" server --prover exec --danger-accept-exec --lease 10s --rpc-url "http://127.0.0.1:$node_port" \
        --listen-port "${ports[$1]}" "${where[@]}" >>"server-$1.log" 2>&1 &
    pids[server$1]=$!
}
answers() { curl -sf --max-time 2 "http://127.0.0.1:${ports[$1]}/readyz"; }
stop() {
    kill -TERM "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || true
}
start_client() {
    "$2" client --prover exec --server "http://127.0.0.1:${ports[1]}" --server "http://127.0.0.1:${ports[2]}" \
        --data-dir "$folder/client-$1" >>"client-$1.log" 2>&1 &
    pids[client$1]=$!
}

for server in 1 2; do start_server $server "$old"; done
for server in 1 2; do until_true "server $server answers" "answers $server"; done
for client in 1 2 3; do start_client $client "$old"; done

# Asks one server or the other, as clients do, and notes the longest time in which neither answered.
watch() {
    local down=0 since
    since=$(date +%s%N)
    while :; do
        if answers 1 >/dev/null || answers 2 >/dev/null; then since=$(date +%s%N); fi
        local now=$((($(date +%s%N) - since) / 1000000))
        if [ "$now" -gt "$down" ]; then down=$now; fi
        echo "$down" >"$folder/down.new" && mv "$folder/down.new" "$folder/down"
        sleep 0.05
    done
}
watch &
pids[watch]=$!
# Seconds since a job was proved last, by the database's clock.
gaps() {
    while :; do
        sql "SELECT coalesce(max(extract(epoch FROM clock_timestamp()) * 1000 - finished_at), 0)::BIGINT FROM (SELECT max(finished_at) AS
             finished_at FROM jobs) t" >>"$folder/gaps" 2>/dev/null || true
        sleep 0.2
    done
}
until_true "something is proved" '[ "$(sql "SELECT count(*) FROM jobs WHERE state = '"'proved'"'")" -gt 4 ]'
gaps &
pids[gaps]=$!

sleep 3
"$new" migrate --dry-run "${where[@]}"
"$new" migrate "${where[@]}"
sleep 3
for server in 1 2; do
    stop server$server
    start_server $server "$new"
    until_true "server $server of the new version answers" "answers $server"
    sleep 3
done
for client in 1 2 3; do
    stop client$client
    start_client $client "$new"
done
sleep 3
kill "${pids[watch]}" "${pids[gaps]}"
wait "${pids[watch]}" "${pids[gaps]}" 2>/dev/null || true

down=$(cat down)
longest=$(sort -n gaps | tail -n 1)
echo "neither server answered for $down ms at most; $longest ms at most from one proof to the next"
[ "$down" -le 5000 ] || die "requests failed for more than five seconds"
proven_once
"$new" fsck "${where[@]}"
