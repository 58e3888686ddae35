#!/bin/bash
# Settles on anvil, in a test of crates/settlement/tests: `whole`, from a deposit on L1 to a withdrawal that is paid there, or `anvil`, while
# the processes that settle are killed. Needs npm, which installs anvil into FOLDER.
#
#   [KILLS=200] scripts/settle_anvil.sh FOLDER whole|anvil
set -euo pipefail

usage="usage: $0 FOLDER whole|anvil"
tools=${1:?$usage}
test=${2:?$usage}
foundry=1.7.1
mkdir -p "$tools"
tools=$(realpath "$tools")
find_anvil() { find "$tools/node_modules/@foundry-rs" -path '*/bin/anvil' -type f -size +1M 2>/dev/null | head -n 1; }
if [ -z "$(find_anvil)" ]; then
    (cd "$tools" && npm install --no-audit --no-fund --no-save "@foundry-rs/anvil@$foundry" "@foundry-rs/cast@$foundry")
fi
# The executable itself: npm links only a script that starts it.
ANVIL=$(find_anvil)
export ANVIL KILLS=${KILLS:-200}
cd "$(dirname "$0")/.."
${CARGO:-cargo} test --locked --test "$test" -- --nocapture
