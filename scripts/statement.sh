#!/bin/bash
# Compiles docs/statement/Statement.sol with solc from npm, which is installed into FOLDER, and writes Statement.json beside it: the
# compiler, the hash of the source as the compiler saw it, and the code that crates/devnode/tests/statement.rs runs.
#
#   scripts/statement.sh FOLDER
set -euo pipefail

tools=${1:?usage: $0 FOLDER}
version=0.8.30
cd "$(dirname "$0")/../docs/statement"
mkdir -p "$tools"
if [ ! -d "$tools/node_modules/solc" ]; then
    npm install --prefix "$tools" --no-audit --no-fund --no-save "solc@$version"
fi
NODE_PATH=$tools/node_modules node - <<'JS'
const fs = require("fs");
const solc = require("solc");
const file = "Statement.sol";
const output = JSON.parse(solc.compile(JSON.stringify({
    language: "Solidity",
    sources: { [file]: { content: fs.readFileSync(file, "utf8") } },
    settings: {
        evmVersion: "cancun",
        optimizer: { enabled: true, runs: 200 },
        metadata: { appendCBOR: false },
        outputSelection: { [file]: { StatementVectors: ["metadata", "evm.deployedBytecode.object"] } },
    },
})));
for (const { formattedMessage } of output.errors ?? []) console.error(formattedMessage);
if (output.errors?.length) process.exit(1);
const contract = output.contracts[file].StatementVectors;
const metadata = JSON.parse(contract.metadata);
const artifact = {
    compiler: metadata.compiler.version,
    source_keccak256: metadata.sources[file].keccak256,
    code: "0x" + contract.evm.deployedBytecode.object,
};
fs.writeFileSync("Statement.json", JSON.stringify(artifact, null, 2) + "\n");
JS
