#!/bin/bash
# Compiles contracts/ with solc from npm, which is installed into FOLDER, and writes contracts/artifacts: of each contract that somebody
# deploys or runs the ABI, the code, the compiler and the hash of every source as the compiler saw it. With --check it writes nothing,
# and fails if that is not what is there.
#
#   scripts/contracts.sh FOLDER [--check]
set -euo pipefail

tools=${1:?usage: $0 FOLDER [--check]}
mkdir -p "$tools"
tools=$(realpath "$tools")
# At once: npm removes what is not named. forge and OpenZeppelin are for the tests (contracts_test.sh).
packages="solc@0.8.37 @foundry-rs/forge@1.7.1 @openzeppelin/contracts@5.4.0"
if [ "$(cat "$tools/packages" 2>/dev/null)" != "$packages" ]; then
    # shellcheck disable=SC2086 # three words
    npm install --prefix "$tools" --no-audit --no-fund --no-save $packages
    echo "$packages" >"$tools/packages"
fi
cd "$(dirname "$0")/../contracts"
NODE_PATH=$tools/node_modules node - "${2:-}" <<'JS'
const fs = require("fs");
const solc = require("solc");
// Where each contract is whose artifact is kept.
const contracts = {
    Rollup: "src/Rollup.sol",
    Bridge: "src/Bridge.sol",
    Outbox: "src/Outbox.sol",
    RiscZero: "src/systems/RiscZero.sol",
    Sp1: "src/systems/Sp1.sol",
    DangerMock: "src/systems/DangerMock.sol",
    StatementVectors: "test/StatementVectors.sol",
};
// The same as in foundry.toml.
const output = JSON.parse(solc.compile(JSON.stringify({
    language: "Solidity",
    sources: Object.fromEntries(Object.values(contracts).map((file) => [file, { content: fs.readFileSync(file, "utf8") }])),
    settings: {
        evmVersion: "cancun",
        optimizer: { enabled: true, runs: 10000 },
        metadata: { appendCBOR: false, bytecodeHash: "none" },
        outputSelection: { "*": { "*": ["abi", "metadata", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
}), { import: (file) => ({ contents: fs.readFileSync(file, "utf8") }) }));
for (const { formattedMessage } of output.errors ?? []) console.error(formattedMessage);
if (output.errors?.length) process.exit(1);
for (const [name, file] of Object.entries(contracts)) {
    const contract = output.contracts[file][name];
    const metadata = JSON.parse(contract.metadata);
    const artifact = JSON.stringify({
        abi: contract.abi,
        bytecode: "0x" + contract.evm.bytecode.object,
        deployedBytecode: "0x" + contract.evm.deployedBytecode.object,
        source_keccak256: Object.fromEntries(Object.entries(metadata.sources).map(([path, source]) => [path, source.keccak256])),
        compiler: metadata.compiler.version,
    }, null, 2) + "\n";
    const path = `artifacts/${name}.json`;
    if (process.argv[2] !== "--check") {
        fs.writeFileSync(path, artifact);
    } else if (!fs.existsSync(path) || fs.readFileSync(path, "utf8") !== artifact) {
        console.error(`contracts/${path} is not what the sources give: run \`scripts/contracts.sh FOLDER\``);
        process.exitCode = 1;
    }
}
JS
