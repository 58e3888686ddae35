#!/usr/bin/env node
// The code that makes contracts, as JSON by name: bytecode.js FILE.sol:CONTRACT... with solc of npm, which NODE_PATH must have, and
// REMAPPINGS as solc takes them, separated by spaces.
const fs = require("fs");
const solc = require("solc");
const wanted = process.argv.slice(2).map((argument) => argument.split(":"));
const output = JSON.parse(solc.compile(JSON.stringify({
    language: "Solidity",
    sources: Object.fromEntries(wanted.map(([file]) => [file, { content: fs.readFileSync(file, "utf8") }])),
    settings: {
        remappings: (process.env.REMAPPINGS ?? "").split(" ").filter((text) => text),
        evmVersion: "cancun",
        optimizer: { enabled: true, runs: 10000 },
        outputSelection: { "*": { "*": ["evm.bytecode.object"] } },
    },
}), { import: (file) => ({ contents: fs.readFileSync(file, "utf8") }) }));
for (const { severity, formattedMessage } of output.errors ?? []) {
    if (severity === "error") {
        console.error(formattedMessage);
        process.exitCode = 1;
    }
}
if (!process.exitCode) {
    console.log(JSON.stringify(Object.fromEntries(
        wanted.map(([file, name]) => [name, "0x" + output.contracts[file][name].evm.bytecode.object]))));
}
