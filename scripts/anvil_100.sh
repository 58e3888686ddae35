#!/bin/bash
# anvil as the L2: a hundred consecutive blocks with transactions from cast, their witnesses from eth_getProof (anvil has no
# debug_executionWitness), each executed to its own header. Then a server follows anvil through a reorg.
# Needs npm, which installs anvil and cast into FOLDER.
#
#   scripts/anvil_100.sh PATH/TO/l2-prover [FOLDER [BLOCKS]]
set -euo pipefail

prover=$(realpath "${1:?usage: $0 PATH/TO/l2-prover [FOLDER [BLOCKS]]}")
blocks=${3:-100}
patience=120
source "$(dirname "$0")/common.sh"
install_foundry "${2:-$folder/tools}"
cd "$folder"

port=$(free_port)
url=http://127.0.0.1:$port
# At such a low base fee it stays constant; after a reorg anvil continues with the fee of the abandoned branch.
"$anvil" --port "$port" --hardfork cancun --block-base-fee-per-gas 7 --no-mining >anvil.log 2>&1 &
pids[anvil]=$!
rpc() { "$cast" rpc --rpc-url "$url" "$@"; }
until_true "anvil answers" 'rpc eth_blockNumber'
# Blocks made within one second would all have the same timestamp, which no Ethereum block may have.
rpc anvil_setBlockTimestampInterval 1 >/dev/null

mnemonic="test test test test test test test test test test test junk"
key() { "$cast" wallet private-key "$mnemonic" "$1"; }
alice=$(key 0) bob=$(key 1) carol=$(key 2) dave=$(key 3)
send() { "$cast" send --async --rpc-url "$url" --gas-limit 200000 --private-key "$@" >/dev/null; }
mine() { rpc evm_mine >/dev/null; }

# Stores the second word of its call data in the slot that the first word names.
send "$alice" --create 0x6860203560003555000060005260096017f3
mine
store=$("$cast" compute-address --nonce 0 "$("$cast" wallet address "$alice")" | sed 's/.*: //')
[ "$("$cast" code --rpc-url "$url" "$store")" = 0x602035600035550000 ] || die "the contract is not there"

# Each block has a transfer to a fresh account, sets a slot and changes one that was set before; some deploy a contract. None
# clears a slot: see below.
made=1
echo "making $blocks blocks"
for number in $(seq "$blocks"); do
    send "$alice" --value "$number" "$(printf '0x%040x' $((number + 4096)))"
    send "$bob" "$store" "$(printf '0x%064x%064x' "$number" "$number")"
    if [ "$number" -gt 3 ]; then send "$carol" "$store" "$(printf '0x%064x%064x' $((number - 3)) $((number * number)))"; fi
    if [ $((number % 10)) = 0 ]; then send "$dave" --create 0x6860203560003555000060005260096017f3; fi
    mine
    made=$((made + 1))
done

# Not block 1: the header of anvil's genesis block does not commit to its accounts.
last=$made
begun=$(date +%s%N)
"$prover" execute --rpc-url "$url" --block "2..$last" --chain anvil --prover exec
echo "blocks 2 to $last of anvil: $(((($(date +%s%N) - begun) / 1000000) / blocks)) ms for each, from eth_getProof to the executed batch"
if "$prover" execute --rpc-url "$url" --block 1 --chain anvil --prover exec >/dev/null 2>refused.log; then
    die "block 1 was executed, though its parent's header does not commit to a state"
fi
# The same rules as reported by the node itself.
"$prover" execute --rpc-url "$url" --block "$last" --chain node --prover exec >/dev/null
# A block that clears a slot: anvil keeps zeroes in its storage tries, so its state root is not Ethereum's.
send "$bob" "$store" "$(printf '0x%064x%064x' 1 0)"
mine
made=$((made + 1))
if "$prover" execute --rpc-url "$url" --block "$made" --chain anvil --prover exec >/dev/null 2>refused.log; then
    die "block $made was executed, though anvil's state root has a cleared slot in it"
fi
grep -q stateRoot refused.log || die "block $made was refused for another reason"
rpc anvil_reorg 1 '[]' >/dev/null
mine
made=$((made + 1))

echo "following anvil through a reorg"
server_port=$(free_port)
"$prover" server --prover exec --danger-accept-exec --rpc-url "$url" --ws-url "ws://127.0.0.1:$port" --chain anvil \
    --first-block $((made - 5)) --listen-port "$server_port" --data-dir "$folder/server" >server.log 2>&1 &
pids[server]=$!
status() { curl -sf "http://127.0.0.1:$server_port/v1/status" | python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }
until_true "the server is at the head" '[ "$(status "[\"last_enqueued\"]")" = '"$made"' ]'
"$prover" client --prover exec --server "http://127.0.0.1:$server_port" --data-dir "$folder/client" >client.log 2>&1 &
pids[client]=$!
until_true "all is proven" '[ "$(status "[\"proved_through\"]")" = '"$made"' ]'
for number in 1 2 3 4 5; do
    send "$alice" --value "$number" "$(printf '0x%040x' $((number + 8192)))"
    send "$bob" "$store" "$(printf '0x%064x%064x' $((number + 8192)) "$number")"
    mine
    made=$((made + 1))
    appeared=$(date +%s.%N)
    until_true "block $made is proven" '[ "$(status "[\"proved_through\"]")" = '"$made"' ]'
    enqueued=$(grep "job enqueued.*blocks=$made\$" server.log | cut -d ' ' -f 1)
    echo "block $made: a job $(python3 -c "print(round(($(date -d "$enqueued" +%s.%N) - $appeared) * 1000))") ms after it appeared"
done
rpc anvil_reorg 3 '[]' >/dev/null
until_true "three blocks are superseded and replaced" \
    '[ "$(status "[\"counts\"][\"superseded\"]") $(status "[\"proved_through\"]")" = "3 '"$made"'" ]'
tip() { "$cast" block --rpc-url "$url" "$1" --field hash; }
echo "after a reorg of three blocks: $(status '["counts"]'), proven through block $made, $(tip latest)"
