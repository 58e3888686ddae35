#!/bin/bash
# The tests of contracts/ with forge from npm, gas included; then those with RISC Zero's own contracts, which are fetched.
#
#   scripts/contracts_test.sh FOLDER        (where scripts/contracts.sh has installed its tools)
set -euo pipefail

tools=$(realpath "${1:?usage: $0 FOLDER}")
scripts=$(realpath "$(dirname "$0")")
export NODE_PATH=$tools/node_modules
# The executable itself: npm links only a script that starts it.
forge=$(find "$NODE_PATH/@foundry-rs" -path '*/bin/forge' -type f -size +1M | head -n 1)
"$scripts/contracts_risc0.sh" "$tools"
cd "$scripts/../contracts"
mkdir -p out
node test/tries.js out/tries
test() { "$forge" test --use "$scripts/solc.js" "$@"; }
test --no-match-contract GasTest
# Every call as a transaction of its own.
test --match-contract GasTest --isolate -vv
FOUNDRY_PROFILE=real test -vv \
    --remappings "risc0/=$tools/risc0/" --remappings "openzeppelin/=$NODE_PATH/@openzeppelin/"
