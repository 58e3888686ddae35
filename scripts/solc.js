#!/usr/bin/env node
// npm's solc, called like the native one: what forge needs of it. NODE_PATH must have it.
const solc = require("solc");
if (process.argv.includes("--version")) {
    console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
} else {
    process.stdout.write(solc.compile(require("fs").readFileSync(0, "utf8")));
}
