#!/bin/bash
# A Prover Server follows a dev node in a process of its own. Both are killed with SIGKILL and started again, in any order,
# for two minutes: every block must be proven once, in order, and none skipped.
#
#   scripts/restarts.sh PATH/TO/l2-prover [SECONDS]
set -euo pipefail

prover=$(realpath "${1:?usage: $0 PATH/TO/l2-prover [SECONDS]}")
seconds=${2:-120}
patience=120
source "$(dirname "$0")/common.sh"

cd "$folder"
node_port=$(free_port)
server_port=$(free_port)
start_server() {
    "$prover" server --prover exec --danger-accept-exec --lease 10s --rpc-url "http://127.0.0.1:$node_port" \
        --ws-url "ws://127.0.0.1:$node_port" --listen-port "$server_port" --data-dir server >>server.log 2>&1 &
    pids[server]=$!
}
start_node "$prover" --blocks blocks.rlp
until_true "the node answers" head_block
start_server
until_true "the server answers" 'curl -sf "http://127.0.0.1:$server_port/livez"'
"$prover" client --prover exec --server "http://127.0.0.1:$server_port" --data-dir client >client.log 2>&1 &
pids[client]=$!

declare -A kills=([node]=0 [server]=0)
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
    sleep $((RANDOM % 4 + 1)).$((RANDOM % 10))
    for victim in $(shuf -n $((RANDOM % 2 + 1)) -e node server); do
        kill -9 "${pids[$victim]}"
        wait "${pids[$victim]}" 2>/dev/null || true
        kills[$victim]=$((kills[$victim] + 1))
        unset "pids[$victim]"
    done
    # A process that was killed stays down for a while. A server does not start without its node.
    sleep 0.$((RANDOM % 10))
    [ -n "${pids[node]:-}" ] || start_node "$prover" --blocks blocks.rlp
    until_true "the node is back" head_block
    [ -n "${pids[server]:-}" ] || start_server
    until_true "the server is back" 'curl -sf "http://127.0.0.1:$server_port/livez"'
done

last=$(($(head_block)))
proven() { [ "$(curl -sf "http://127.0.0.1:$server_port/v1/status" | python3 -c 'import json, sys; print(json.load(sys.stdin)["proved_through"])')" -ge "$last" ]; }
until_true "every block up to $last is proven" proven
kill -9 "${pids[server]}" && wait "${pids[server]}" 2>/dev/null || true
unset "pids[server]"

python3 - "$last" "${kills[node]}" "${kills[server]}" <<'PY' || die "not every block is proven once, in order"
import sqlite3, sys
last, nodes, servers = map(int, sys.argv[1:])
db = sqlite3.connect("server/jobs.sqlite")
def ask(sql):
    return [row[0] for row in db.execute(sql, (last,))]
batches = ask("SELECT first FROM batches WHERE first = last AND superseded_at IS NULL AND last <= ? ORDER BY id")
superseded = ask("SELECT count(*) FROM batches WHERE superseded_at IS NOT NULL AND last <= ?")[0]
accepted = ask("SELECT s.job FROM submissions s JOIN jobs j ON j.id = s.job JOIN batches b ON b.id = j.batch"
               " WHERE verdict = 'accepted' AND b.last <= ?")
rejected = ask("SELECT count(*) FROM submissions s JOIN jobs j ON j.id = s.job JOIN batches b ON b.id = j.batch"
               " WHERE verdict = 'rejected' AND b.last <= ?")[0]
print(f"nodes killed {nodes}, servers killed {servers}, blocks {last}, with a job, in order {len(batches)},"
      f" accepted proofs {len(accepted)} of {len(set(accepted))} jobs, rejected {rejected}, superseded {superseded}")
sys.exit(not (batches == list(range(1, last + 1)) and len(accepted) == len(set(accepted)) == last
              and rejected == superseded == 0))
PY
"$prover" fsck --data-dir server
