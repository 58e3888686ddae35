#!/bin/bash
# One dev block is proven for real twice: whole by one client, then in parts by two, each client on cores of its own. It says how long both
# took, and with how many CPU seconds. On two cores it takes about an hour, and 2.5 GB of memory for each client (2^18). Smaller segments
# cost more: pages are paid for in each, and fill most of one of 2^16.
#
#   [PO2=18] [CORES=1] [TRAFFIC="transfer --traffic-per-block 1"] scripts/parts_speed.sh PATH/TO/l2-prover
#
# A client has CORES cores, from core 0 on. TRAFFIC is what `l2-prover node --traffic` takes. With an l2-prover-risc0 of the feature `cuda`
# both clients use the first GPU.
set -euo pipefail

prover=$(realpath "${1:?usage: $0 PATH/TO/l2-prover}")
po2=${PO2:-18}
cores=${CORES:-1}
read -ra traffic <<<"${TRAFFIC:-transfer --traffic-per-block 1}"
patience=60
unset RISC0_DEV_MODE
source "$(dirname "$0")/common.sh"
command -v taskset >/dev/null || die "taskset is missing: it is part of util-linux"

cd "$folder"
node_port=$(free_port)
# The same block for both: there is no other.
start_node "$prover" --traffic "${traffic[@]}"
until_true "the node has a block" '[ $(($(head_block))) -ge 1 ]'
echo "ready_jobs = 1" >server.toml

# CPU seconds of a client and of what it has started, with those that have ended.
cpu() {
    for process in $(ps -s "$1" -o pid=); do
        sed 's/.*) //' "/proc/$process/stat" 2>/dev/null || true
    done | awk -v ticks="$(getconf CLK_TCK)" '{ sum += $12 + $13 + $14 + $15 } END { printf "%.0f", sum / ticks }'
}

# A run of this name, with so many clients; the rest are flags of the server. Sets `seconds` and `used`.
run() {
    local name=$1 clients=$2 port server begun job
    shift 2
    port=$(free_port)
    server=http://127.0.0.1:$port
    "$prover" server --config server.toml --rpc-url "http://127.0.0.1:$node_port" --prover risc0 --kind succinct \
        --listen-port "$port" --data-dir "$name" "$@" >"$name.log" 2>&1 &
    pids[$name]=$!
    until_true "the server answers" 'curl -sf "'"$server"'/livez"'
    until_true "the server has a job" 'curl -sf "'"$server"'/v1/jobs" | grep -q job'
    begun=$(date +%s%N)
    for ((client = 0; client < clients; client++)); do
        setsid taskset -c "$((client * cores))-$((client * cores + cores - 1))" \
            "$prover" client --prover risc0 --segment-po2 "$po2" --server "$server" --data-dir "$name-$client" --name "client-$client" \
            >"$name-$client.log" 2>&1 &
        pids[$name-$client]=$!
    done
    # Seldom: who asks ten times a second takes half a core.
    until [ "$(curl -sf "$server/v1/status" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["proved_through"] or 0)')" -ge 1 ]; do
        sleep 5
    done
    seconds=$((($(date +%s%N) - begun) / 1000000))
    used=0
    for ((client = 0; client < clients; client++)); do
        used=$((used + $(cpu "${pids[$name-$client]}")))
    done
    "$prover" proofs verify --server "$server" --block 1 >"$name-verify.log" 2>&1 || die "the proof does not verify"
    job=$(curl -sf "$server/v1/jobs?state=proved" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["job"])')
    "$prover" jobs show "$job" --server "$server" >"$name-job.txt"
    for ((client = 0; client < clients; client++)); do
        kill -9 -- "-${pids[$name-$client]}"
        wait "${pids[$name-$client]}" 2>/dev/null || true
        unset "pids[$name-$client]"
    done
    kill "${pids[$name]}"
    unset "pids[$name]"
    echo "$name, $clients x $cores cores: $((seconds / 1000)) s, $used CPU seconds"
}

run whole 1
before=$seconds before_used=$used
run parts 2 --split --split-segment-po2 "$po2" --split-least-segments 2
cat parts-job.txt
awk -v a="$before" -v b="$seconds" -v c="$before_used" -v d="$used" \
    'BEGIN { printf "two clients are %.2f times as fast as one, with %.1f %% more CPU seconds\n", a / b, 100 * (d / c - 1) }'
