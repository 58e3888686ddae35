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
stop_rest() {
    [ -z "${postgres:-}" ] || { kill -QUIT "$postgres" && wait "$postgres"; } 2>/dev/null || true
}

programs=$(dirname "$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort -V | tail -n 1)")
[ -x "$programs/initdb" ] || programs=$(dirname "$(command -v initdb)") || die "PostgreSQL is not installed: make setup"
database_port=$(free_port)
as_owner=()
if [ "$(id -u)" = 0 ]; then
    chmod 755 "$folder"
    install -d -o postgres "$folder/database"
    as_owner=(setpriv --reuid=postgres --regid=postgres --clear-groups)
else
    mkdir "$folder/database"
fi
cd "$folder"
"${as_owner[@]}" "$programs/initdb" -D database/data --auth=trust --username=prover >initdb.log
"${as_owner[@]}" "$programs/postgres" -D database/data -p "$database_port" -c listen_addresses=127.0.0.1 \
    -k "$folder/database" >postgres.log 2>&1 &
postgres=$!
sql() { "$programs/psql" -h 127.0.0.1 -p "$database_port" -U prover -d postgres -Atqc "$1"; }
until_true "PostgreSQL answers" 'sql "SELECT 1"'

node_port=$(free_port)
"$prover" node --node-port "$node_port" --block-time 500ms >node.log 2>&1 &
pids[node]=$!
head_block() {
    curl -sf -H 'content-type: application/json' "http://127.0.0.1:$node_port" \
        -d '{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}' | sed 's/.*"result":"\(0x[0-9a-f]*\)".*/\1/'
}
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

last=$(($(head_block)))
proven() { [ "$(sql "SELECT count(*) FROM jobs j JOIN batches b ON b.id = j.batch WHERE b.last <= $last AND state = 'proved'")" -ge "$last" ]; }
until_true "every block up to $last is proven" proven

count() { sql "SELECT count(*) FROM ($1) t"; }
up_to="JOIN jobs j ON j.id = s.job JOIN batches b ON b.id = j.batch WHERE b.last <= $last"
blocks=$(count "SELECT DISTINCT first FROM batches WHERE last <= $last AND first = last")
jobs=$(count "SELECT j.id FROM jobs j JOIN batches b ON b.id = j.batch WHERE b.last <= $last")
accepted=$(count "SELECT s.job FROM submissions s $up_to AND verdict = 'accepted'")
twice=$(count "SELECT s.job FROM submissions s $up_to AND verdict = 'accepted' GROUP BY s.job HAVING count(*) > 1")
rejected=$(count "SELECT s.job FROM submissions s $up_to AND verdict = 'rejected'")
duplicate=$(count "SELECT s.job FROM submissions s $up_to AND verdict = 'duplicate'")
expired=$(count "SELECT id FROM leases WHERE outcome = 'expired'")
echo "servers killed $kills, blocks $last, with a job $blocks, jobs $jobs, accepted proofs $accepted, proven twice $twice," \
    "duplicate $duplicate, rejected $rejected, leases expired $expired"
[ "$blocks $jobs $accepted $twice $rejected" = "$last $last $last 0 0" ] || die "not every block is proven exactly once"
"$prover" fsck "${where[@]}"
