#!/bin/bash
# The whole loop, with anvil (from npm) as L1 and the dev node as L2: the contracts are deployed, ether is deposited on L1 and spent on the
# L2, batches are proven and settled, and a withdrawal is paid on L1. What each transaction costs stands at the end. Proofs are those of
# the exec prover, which prove nothing; or, with RISC0=1, receipts of RISC Zero's dev mode, through its own router and mock verifier, which
# are fetched from crates.io and compiled. Then l2-prover-risc0 must be beside l2-prover.
#
#   [RISC0=1] scripts/settle.sh PATH/TO/l2-prover FOLDER        (where anvil is installed)
set -euo pipefail

usage="usage: $0 PATH/TO/l2-prover FOLDER"
prover=$(realpath "${1:?$usage}")
mkdir -p "${2:?$usage}"
tools=$(realpath "$2")
sources=$(realpath "$(dirname "$0")/..")
patience=60
source "$sources/scripts/common.sh"
install_foundry "$tools"
cd "$folder"
l1_port=$(free_port) node_port=$(free_port) server_port=$(free_port)
l1=http://127.0.0.1:$l1_port l2=http://127.0.0.1:$node_port server=http://127.0.0.1:$server_port
# The first two accounts of anvil: one deploys and settles, the other one is a user.
operator_key=0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80
user_key=0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d
user=$("$cast" wallet address "$user_key")
receiver=0x00000000000000000000000000000000000Fee1D
outbox=0x0000000000000000000000000000000000000b0c
gas=()

say() { echo "== $*"; }
field() { python3 -c 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."): value = value[int(name) if name.isdigit() else name]
print(value)' "$1"; }
# Sends with the user's key, and prints the receipt.
user_sends() {
    local rpc=$1
    shift
    "$cast" send --json --rpc-url "$rpc" --private-key "$user_key" "$@" 2>>cast.log || die "a transaction of the user failed: $*"
}
receipt_gas() { printf '%d' "$(field gasUsed)"; }
balance() { "$cast" balance --rpc-url "$1" "$2"; }
settled() { "$cast" call --rpc-url "$l1" "$rollup" 'head()((bytes32,bytes32,uint64,uint64,bytes32))' | tr -d '()' | cut -d, -f3 | tr -d ' '; }

say "L1: anvil, a block each second, final after four"
"$anvil" --port "$l1_port" --block-time 1 --slots-in-an-epoch 2 --silent >anvil.log 2>&1 &
pids[l1]=$!
until_true "anvil answers" '"$cast" chain-id --rpc-url "$l1"'

say "L2: a genesis with a bridge and the Outbox, and without ether"
"$prover" node --print-genesis >dev.json
python3 - "$sources/contracts/artifacts/Outbox.json" "$outbox" >genesis.json <<'END'
import json, sys
genesis = json.load(open("dev.json"))
genesis["config"]["bridge"] = True
for account in genesis["alloc"].values():
    account["balance"] = "0x0"
genesis["alloc"][sys.argv[2]] = {"balance": "0x0", "code": json.load(open(sys.argv[1]))["deployedBytecode"]}
json.dump(genesis, sys.stdout)
END
echo -n password >password
"$cast" wallet import operator --keystore-dir . --private-key "$operator_key" --unsafe-password password >cast.log 2>&1
wallet=(--keystore operator --password-file password)

deploy() { "$prover" deploy --genesis genesis.json --l1-rpc-url "$l1" --l1-chain-id 31337 --finality 3s "${wallet[@]}" "$@" 2>>deploy.log; }
# A contract of the user's: its name in code.json, and its arguments, encoded.
makes() {
    local code
    code=$(field "$1" <code.json)
    user_sends "$l1" --create "$code${2#0x}" | field contractAddress
}

if [ -n "${RISC0:-}" ]; then
    say "RISC Zero's router, with its verifier and its mock verifier"
    "$sources/scripts/contracts.sh" "$tools/solc" --check >npm.log 2>&1 || die "solc could not be installed"
    "$sources/scripts/contracts_risc0.sh" "$tools/solc"
    export NODE_PATH=$tools/solc/node_modules
    risc0=$tools/solc/risc0
    REMAPPINGS="openzeppelin/=$NODE_PATH/@openzeppelin/" node "$sources/scripts/bytecode.js" \
        "$risc0/src/RiscZeroVerifierRouter.sol:RiscZeroVerifierRouter" "$risc0/src/test/RiscZeroMockVerifier.sol:RiscZeroMockVerifier" \
        "$risc0/src/groth16/RiscZeroGroth16Verifier.sol:RiscZeroGroth16Verifier" >code.json
    constant() { sed -n "s/.*bytes32 public constant $1 = hex\"\([0-9a-f]*\)\".*/\1/p" "$risc0/src/groth16/ControlID.sol"; }
    router=$(makes RiscZeroVerifierRouter "$("$cast" abi-encode 'f(address)' "$user")")
    mock=$(makes RiscZeroMockVerifier "$("$cast" abi-encode 'f(bytes4)' 0xffffffff)")
    real=$(makes RiscZeroGroth16Verifier "$("$cast" abi-encode 'f(bytes32,bytes32)' "0x$(constant CONTROL_ROOT)" "0x$(constant BN254_CONTROL_ID)")")
    user_sends "$l1" "$router" 'addVerifier(bytes4,address)' 0xffffffff "$mock" >/dev/null
    user_sends "$l1" "$router" 'addVerifier(bytes4,address)' 0x73c457ba "$real" >/dev/null
    deploy --risc0-verifier "$router" --dry-run >/dev/null || die "deploy refuses RISC Zero's router with its verifier"
    deploy --risc0-verifier "$real" --dry-run >/dev/null || die "deploy refuses RISC Zero's verifier"
    ! deploy --risc0-verifier "$mock" --dry-run >/dev/null || die "deploy takes RISC Zero's mock verifier for a real one"
    proofs=(--risc0-verifier "$router" --danger-dev-mode)
    prover_flags=(--prover risc0 --kind succinct --danger-accept-dev-mode) settled=succinct client_flags=(--prover risc0 --dev-mode)
else
    proofs=(--danger-exec)
    prover_flags=(--prover exec --danger-accept-exec) settled=composite client_flags=(--prover exec)
fi

say "the contracts are deployed"
deploy "${proofs[@]}"
rollup=$(field rollup <deployment.json) bridge=$(field bridge <deployment.json)
gas+=("deploy $(field transactions.1.gas <deployment.json)")

"$prover" node --genesis genesis.json --node-port "$node_port" --block-time 500ms --no-traffic --bridge "$bridge" --l1-rpc-url "$l1" \
    >node.log 2>&1 &
pids[node]=$!
until_true "the node answers" 'head_block'
cat >server.toml <<EOF
ready_jobs = 4
settle_rollup = "$rollup"
l1_rpc_url = "$l1"
l1_chain_id = 31337
l1_poll = "500ms"
settle_proof_kind = "$settled"
settle_keystore = "operator"
settle_password_file = "password"
EOF
"$prover" server --config server.toml --rpc-url "$l2" --chain genesis.json "${prover_flags[@]}" --listen-port "$server_port" --data-dir server \
    >server.log 2>&1 &
pids[server]=$!
until_true "the server answers" 'curl -sf "$server/livez"'
"$prover" client "${client_flags[@]}" --server "$server" --data-dir client >client.log 2>&1 &
pids[client]=$!

say "the user deposits an ether on L1"
gas+=("deposit $(user_sends "$l1" "$bridge" 'deposit(address)' "$user" --value 1ether | receipt_gas)")
until_true "the deposit is on the L2" '[ "$(balance "$l2" "$user")" = 1000000000000000000 ]'
say "it is on the L2: block $(($(head_block)))"

say "the user spends on the L2, and withdraws half of it"
for value in 1 2 3; do
    user_sends "$l2" 0x00000000000000000000000000000000000000aa --value "$value" >/dev/null
done
user_sends "$l2" "$outbox" 'withdraw(address)' "$receiver" --value 0.5ether >withdrawal.json
gas+=("withdraw (on the L2) $(receipt_gas <withdrawal.json)")
tx=$(field transactionHash <withdrawal.json)
block=$(($(field blockNumber <withdrawal.json)))
until_true "block $block is settled" '[ "$(settled)" -ge "$block" ]'
say "block $block of the L2 is proven, and settled on L1"
# Of the first batch, which waits for no other.
python3 - <<'EOF'
import datetime, re
def first(message):
    line = next(line for line in open("server.log") if message in line)
    return datetime.datetime.fromisoformat(re.search(r"[0-9T:.-]{20,}Z", line)[0].replace("Z", "+00:00"))
took = first("transaction sent") - first("proof verified")
print(f"the first transaction was sent {took // datetime.timedelta(milliseconds=1)} ms after the proof was accepted")
EOF
"$cast" logs --json --rpc-url "$l1" --address "$rollup" --from-block 0 "Settled(uint64,uint64,bytes32,bytes32,uint64,address)" >settled.json
count=$(python3 -c 'import json; print(len(json.load(open("settled.json"))))')
for ((n = 0; n < count; n++)); do
    hash=$(field "$n.transactionHash" <settled.json)
    first=$(($(field "$n.topics.1" <settled.json))) last=$(($(field "$n.topics.2" <settled.json)))
    gas+=("settle $first..$last $("$cast" receipt --json --rpc-url "$l1" "$hash" | receipt_gas)")
done

say "anybody claims it on L1, once it is 3 seconds old"
until_true "it can be claimed" '"$prover" claim --dry-run --tx "$tx" --rpc-url "$l2" --l1-rpc-url "$l1" --rollup "$rollup"'
"$prover" claim --json --tx "$tx" --rpc-url "$l2" --l1-rpc-url "$l1" --l1-chain-id 31337 --rollup "$rollup" "${wallet[@]}" 2>>claim.log >claim.json
# The first line says which transaction is sent.
gas+=("claim $(tail -n 1 claim.json | field gas)")
[ "$(balance "$l1" "$receiver")" = 500000000000000000 ] || die "the receiver has $(balance "$l1" "$receiver") wei"
say "$receiver has half an ether on L1"
"$prover" claim --tx "$tx" --rpc-url "$l2" --l1-rpc-url "$l1" --rollup "$rollup" --dry-run 2>>claim.log

echo
printf '%-24s %12s\n' transaction gas
for row in "${gas[@]}"; do
    printf '%-24s %12s\n' "${row% *}" "${row##* }"
done
