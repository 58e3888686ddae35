#!/bin/bash
# A dev block is proven for real by r0vm's cluster, a manager and two workers, through its REST API. One worker is killed half way,
# and a new one started: r0vm gives the killed worker's tasks to nobody, so that l2-prover has to notice and begin again.
# It takes about three quarters of an hour of two cores, and 5 GB of memory for each worker.
#
#   [PO2=19] [DEADLINE=30m] [KILL_AFTER=60] scripts/engine_r0vm.sh PATH/TO/l2-prover PATH/TO/r0vm
set -euo pipefail

usage="usage: $0 PATH/TO/l2-prover PATH/TO/r0vm"
prover=$(realpath "${1:?$usage}")
r0vm=$(realpath "${2:?$usage}")
po2=${PO2:-19}
# r0vm shows no states: this has to be longer than a session takes that nobody disturbs.
deadline=${DEADLINE:-30m}
kill_after=${KILL_AFTER:-60}
patience=60
unset RISC0_DEV_MODE
source "$(dirname "$0")/common.sh"

cd "$folder"
node_port=$(free_port)
api_port=$(free_port)
cluster_port=$(free_port)
engine=http://127.0.0.1:$api_port

cpu_of() { ps -o cputimes= -p "${pids[$1]}"; }

# CPU seconds of r0vm's processes that were killed, and of those that live.
killed_cpu=0
cpu() {
    local all=$killed_cpu seconds
    for name in manager worker1 worker2 worker3; do
        [ -z "${pids[$name]:-}" ] && continue
        seconds=$(cpu_of "$name" || echo 0)
        all=$((all + seconds))
    done
    echo "$all"
}

start_worker() {
    "$r0vm" --worker prove-segment,prove-keccak,lift,join,union,resolve --addr "127.0.0.1:$cluster_port" >"$1.log" 2>&1 &
    pids[$1]=$!
}

mkdir storage
"$r0vm" --manager --worker execute --addr "127.0.0.1:$cluster_port" --api "127.0.0.1:$api_port" --storage storage \
    --po2 "$po2" >manager.log 2>&1 &
pids[manager]=$!
until_true "the engine answers" 'curl -sf "$engine/inputs/upload"'
start_worker worker1
start_worker worker2

# A block without transactions: two segments, and a batch of keccak permutations.
start_node "$prover" --no-traffic
until_true "the node has a block" 'mine_block && [ $(($(head_block))) -ge 1 ]'

begun=$SECONDS
PROVER_BONSAI_PROGRESS_DEADLINE=$deadline PROVER_BONSAI_SESSIONS=sessions \
    "$prover" prove --rpc-url "http://127.0.0.1:$node_port" --block 1 --prover risc0 --engine "$engine" --log info \
    --out block.proof >prove.log 2>&1 &
pids[prove]=$!
sessions() { grep -c "session begun" prove.log || true; }
until_true "a session is begun" '[ "$(sessions)" = 1 ]'
echo "a session is begun after $((SECONDS - begun)) s"

sleep "$kill_after"
kill -0 "${pids[prove]}" 2>/dev/null || die "it ended before a worker was killed: set KILL_AFTER to less than $kill_after"
# One of them may have nothing to do.
victim=worker1
[ "$(cpu_of worker1)" -ge "$(cpu_of worker2)" ] || victim=worker2
killed_cpu=$(cpu_of "$victim")
kill -9 "${pids[$victim]}"
wait "${pids[$victim]}" 2>/dev/null || true
unset "pids[$victim]"
start_worker worker3
echo "a worker is killed after $((SECONDS - begun)) s, and another one started"

wait "${pids[prove]}" || die "it is not proven"
unset "pids[prove]"
seconds=$((SECONDS - begun))
"$prover" verify block.proof >verify.log 2>&1 || die "the proof does not verify"
# In the next session r0vm may give tasks to the killed worker too, which had asked for them ahead.
[ "$(sessions)" -ge 2 ] || die "there was one session only: was the worker idle when it was killed? Try another KILL_AFTER"
[ -z "$(ls sessions)" ] || die "a session was left behind"
echo "proven in $seconds s, in session $(sessions), with $(cpu) CPU seconds of r0vm's; the proof of $(stat -c %s block.proof) bytes verifies"
