// Compiles the contracts beside this file into their .json files; see README.md.
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const names = ["Token", "Store", "Precompiles"];
const sources = Object.fromEntries(
  names.map((n) => [`${n}.sol`, { content: fs.readFileSync(path.join(__dirname, `${n}.sol`), "utf8") }]),
);
const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: "Solidity",
      sources,
      settings: {
        evmVersion: "prague",
        optimizer: { enabled: true, runs: 200 },
        metadata: { bytecodeHash: "none", appendCBOR: false },
        outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
      },
    }),
  ),
);
for (const e of output.errors ?? []) console.error(e.formattedMessage);
if ((output.errors ?? []).some((e) => e.severity === "error")) process.exit(1);
for (const n of names) {
  const c = output.contracts[`${n}.sol`][n];
  fs.writeFileSync(path.join(__dirname, `${n}.json`), JSON.stringify({ abi: c.abi, bytecode: "0x" + c.evm.bytecode.object }, null, 1) + "\n");
  fs.writeFileSync(path.join(__dirname, `${n}.hex`), c.evm.bytecode.object + "\n");
}
