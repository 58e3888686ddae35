#!/bin/bash
# Settles on anvil, while the processes that settle are killed: crates/settlement/tests/anvil. Needs npm, which installs anvil into FOLDER.
#
#   KILLS=200 scripts/settle_chaos.sh FOLDER
set -euo pipefail

tools=${1:?usage: $0 FOLDER}
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
${CARGO:-cargo} nextest run --locked --profile long --no-capture --test anvil
