#!/bin/bash
# The tests of crates/settlement/tests that need an L1: the whole loop, and processes that settle while they are killed. Needs npm, which
# installs anvil into FOLDER.
#
#   [KILLS=200] scripts/settle_anvil.sh FOLDER
set -euo pipefail

tools=${1:?usage: $0 FOLDER}
source "$(dirname "$0")/common.sh"
install_foundry "$tools"
export ANVIL=$anvil KILLS=${KILLS:-200}
cd "$(dirname "$0")/.."
${CARGO:-cargo} test --locked --test whole --test anvil -- --nocapture
