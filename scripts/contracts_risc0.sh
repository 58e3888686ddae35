#!/bin/bash
# Fetches RISC Zero's verifier contracts from crates.io into FOLDER/risc0, for the tests in contracts/test/real. They are GPL-3.0 in
# part, so they are never copied into this repository.
#
#   scripts/contracts_risc0.sh FOLDER
set -euo pipefail

folder=${1:?usage: $0 FOLDER}/risc0
crate=risc0-ethereum-contracts
version=3.0.1
find_crate() { find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -name "$crate-$version" 2>/dev/null | head -n 1; }
# Downloads and unpacks this one crate, without what it depends on; outside of any workspace.
[ -n "$(find_crate)" ] || (cd / && cargo info --quiet "$crate@$version" >/dev/null)
found=$(find_crate)
[ -n "$found" ] || { echo "cargo has not fetched $crate $version" >&2; exit 1; }
rm -rf "$folder"
mkdir -p "$folder"
cp -r "$found/src" "$found/test" "$folder"
