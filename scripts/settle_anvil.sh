#!/bin/bash
# Settles on anvil, in a test of crates/settlement/tests: `whole`, from a deposit on L1 to a withdrawal that is paid there, or `anvil`, while
# the processes that settle are killed. Needs npm, which installs anvil into FOLDER.
#
#   [KILLS=200] scripts/settle_anvil.sh FOLDER whole|anvil
set -euo pipefail

usage="usage: $0 FOLDER whole|anvil"
tools=${1:?$usage}
test=${2:?$usage}
source "$(dirname "$0")/common.sh"
install_foundry "$tools"
export ANVIL=$anvil KILLS=${KILLS:-200}
cd "$(dirname "$0")/.."
${CARGO:-cargo} test --locked --test "$test" -- --nocapture
