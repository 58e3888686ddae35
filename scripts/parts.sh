#!/bin/bash
# One dev block is proven for real, in parts, by two clients. One of them is killed half way, and a third one comes.
# It takes about half an hour of two cores, and 2.5 GB of memory for each client (2^18; 5 GB with PO2=19).
#
#   [PO2=18] [KILL_AFTER=60] [EMPTY=1: a block without a transaction] scripts/parts.sh PATH/TO/l2-prover
set -euo pipefail

prover=$(realpath "${1:?usage: $0 PATH/TO/l2-prover}")
po2=${PO2:-18}
kill_after=${KILL_AFTER:-60}
patience=60
unset RISC0_DEV_MODE
source "$(dirname "$0")/common.sh"

cd "$folder"
node_port=$(free_port)
server_port=$(free_port)
server=http://127.0.0.1:$server_port
if [ -n "${EMPTY:-}" ]; then
    start_node "$prover" --no-traffic
    until_true "the node has a block" 'mine_block && [ $(($(head_block))) -ge 1 ]'
else
    start_node "$prover" --traffic transfer --traffic-per-block 1
    until_true "the node has a block" '[ $(($(head_block))) -ge 1 ]'
fi

# One block is enough: no other is taken in while its job is not proved.
echo "ready_jobs = 1" >server.toml
"$prover" server --config server.toml --rpc-url "http://127.0.0.1:$node_port" --prover risc0 --kind succinct --split \
    --split-segment-po2 "$po2" --split-least-segments 2 --lease 10s --listen-port "$server_port" --data-dir server >server.log 2>&1 &
pids[server]=$!
until_true "the server answers" 'curl -sf "$server/livez"'

start_client() {
    setsid "$prover" client --prover risc0 --segment-po2 "$po2" --server "$server" --data-dir "$1" --name "$1" >"$1.log" 2>&1 &
    pids[$1]=$!
}
begun=$SECONDS
start_client one
start_client two
parts() { curl -sf "$server/v1/status" | python3 -c 'import json, sys
print(*[job["state"] for job in json.load(sys.stdin)["jobs"] if job.get("part")])'; }
until_true "both clients have parts" '[ "$(parts | tr " " "\n" | grep -c leased)" = 2 ]'
sleep "$kill_after"
# With all that it has started.
kill -9 -- "-${pids[two]}"
wait "${pids[two]}" 2>/dev/null || true
unset "pids[two]"
echo "a client is killed after $((SECONDS - begun)) s, and another one started"
start_client three

patience=7200
proved() { curl -sf "$server/v1/status" | python3 -c 'import json, sys; sys.exit((json.load(sys.stdin)["proved_through"] or 0) < 1)'; }
until_true "the block is proven" proved
echo "the block is proven after $((SECONDS - begun)) s"
job=$(curl -sf "$server/v1/jobs?state=proved" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["job"])')
"$prover" jobs show "$job" --server "$server"
"$prover" proofs verify --server "$server" --block 1
curl -sf "$server/v1/jobs/$job/history" | python3 -c '
import json, sys
parts = json.load(sys.stdin)["parts"]
ranges = sorted((part["part"]["first"], part["part"]["end"]) for part in parts
                if part["part"]["work"] == "segments" and part["state"] == "proved")
end = 0
for first, last in ranges:
    assert first == end, f"segments are proven twice, or not at all: {ranges}"
    end = last
lost = sum(part["lost"] for part in parts)
print(f"{end} segments in {len(ranges)} parts, each proven once; clients lost: {lost}")
' || die "not every segment is proven once"
