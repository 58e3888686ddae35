// Takes one `revert` after another out of the contracts and runs the tests: at least one has to fail. Of a condition of several parts
// each part is taken out too. Those that no test notices are named, and unless contracts/README.md quotes them, that is an error.
//
// All are compiled at once, in a copy: each condition is off at one block number, which the tests are run with one after another.
//
//   node contracts_mutants.js FOLDER [FILTER]        (where scripts/contracts.sh has installed its tools; FILTER: a part of "FILE:LINE")
const fs = require("fs");
const path = require("path");
const { execFileSync, spawnSync } = require("child_process");

const tools = path.resolve(process.argv[2]);
const filter = process.argv[3] ?? "";
const contracts = path.join(__dirname, "../contracts");
const copy = path.join(tools, "mutants");
process.env.NODE_PATH = path.join(tools, "node_modules");
const forge = execFileSync("find", [path.join(tools, "node_modules/@foundry-rs"), "-path", "*/bin/forge", "-type", "f", "-size", "+1M"])
    .toString().split("\n")[0];

fs.rmSync(copy, { recursive: true, force: true });
fs.cpSync(contracts, copy, { recursive: true, filter: (file) => !/\/(out|cache|artifacts|real|Gas.t.sol)$/.test(file) });
fs.mkdirSync(path.join(copy, "out"));
execFileSync("node", ["test/tries.js", "out/tries", "1", "300"], { cwd: copy });
// The test would say that there are too few.
const trie = path.join(copy, "test/Trie.t.sol");
fs.writeFileSync(trie, fs.readFileSync(trie, "utf8").replace(/check\(seen\[.*;/g, ""));

// Where the parenthesis at `open` ends.
function close(text, open) {
    let depth = 0;
    for (let i = open; ; i++) {
        if (text[i] === "(") depth++;
        if (text[i] === ")" && --depth === 0) return i;
    }
}

// The parts of a condition between an operator outside of parentheses.
function split(condition, operator) {
    const parts = [""];
    for (let i = 0; i < condition.length; i++) {
        if (condition.startsWith(operator, i)) {
            parts.push("");
            i += operator.length - 1;
        } else {
            const end = condition[i] === "(" ? close(condition, i) : i;
            parts[parts.length - 1] += condition.slice(i, end + 1);
            i = end;
        }
    }
    return parts.map((part) => part.trim());
}

const mutants = [];
const first = 1000;
const add = (where, what) => first + mutants.push({ where, what: what.replace(/\s+/g, " ") }) - 1;
const files = fs.readdirSync(path.join(copy, "src"), { recursive: true }).filter((file) => file.endsWith(".sol")).sort();
for (const file of files) {
    const source = fs.readFileSync(path.join(copy, "src", file), "utf8");
    let out = "", done = 0;
    for (const match of source.matchAll(/\bif \(|\brevert \w+|(?<=[a-z)] )(only\(\w+\)|whileFrozen|selected\(proof\))(?= )/g)) {
        if (match.index < done) continue;
        const where = `${file}:${source.slice(0, match.index).split("\n").length}`;
        let end, text;
        if (match[0] === "if (") {
            const open = match.index + 3;
            end = close(source, open);
            if (!/^\s*(\{\s*)?revert\b/.test(source.slice(end + 1))) continue;
            // Over its own `revert` too.
            const rest = source.slice(end + 1).match(/^\s*(\{\s*)?revert/)[0];
            const condition = source.slice(open + 1, end);
            const whole = add(where, condition);
            let [operator, parts] = ["||", split(condition, "||")];
            if (parts.length === 1) [operator, parts] = ["&&", split(condition, "&&")];
            // `a ? b : c` is one.
            if (parts.length > 1 && !/ \? /.test(condition)) {
                parts = parts.map((part) => {
                    const id = add(where, `${condition} without ${part}`);
                    return operator === "||" ? `((${part}) && block.number != ${id})` : `((${part}) || block.number == ${id})`;
                });
            }
            const off = /modifier (whileFrozen|selected)\([^)]*\) \{\s*$/.test(source.slice(0, match.index)) ? " && block.number != off" : "";
            text = `if ((${parts.join(` ${operator} `)}) && block.number != ${whole}${off})${rest}`;
            end += rest.length;
        } else if (match[0].startsWith("revert")) {
            // Where nothing is asked before it.
            const id = add(where, source.slice(match.index, source.indexOf(";", match.index)));
            [end, text] = [match.index + match[0].length - 1, `if (block.number != ${id}) ${match[0]}`];
        } else {
            const id = add(where, match[1]);
            end = match.index + match[0].length - 1;
            text = match[1].startsWith("only") ? match[1].replace(/\((\w+)\)/, `(block.number == ${id} ? msg.sender : $1)`)
                : match[1] === "whileFrozen" ? `whileFrozen(${id})` : `selected(proof, ${id})`;
        }
        out += source.slice(done, match.index) + text;
        done = end + 1;
    }
    out += source.slice(done);
    out = out.replace("modifier whileFrozen() {", "modifier whileFrozen(uint256 off) {")
        .replace("modifier selected(bytes calldata proof) {", "modifier selected(bytes calldata proof, uint256 off) {");
    fs.writeFileSync(path.join(copy, "src", file), out);
}
// A pure function may not ask for the block's number.
for (const folder of ["src", "test"]) {
    for (const file of fs.readdirSync(path.join(copy, folder), { recursive: true }).filter((file) => file.endsWith(".sol"))) {
        const at = path.join(copy, folder, file);
        fs.writeFileSync(at, fs.readFileSync(at, "utf8").replace(/\bpure\b/g, "view"));
    }
}

// What fails at this block number; null if nothing does.
function test(number) {
    const run = spawnSync(forge, ["test", "--use", path.join(__dirname, "solc.js"), "--fail-fast", "--block-number", String(number)],
        { cwd: copy, encoding: "utf8" });
    if (run.status === 0) return null;
    const output = run.stdout + run.stderr;
    const failure = output.match(/\[FAIL.*/);
    if (!failure) throw Error(output.slice(-3000));
    return failure[0];
}

const broken = test(first - 1);
if (broken) throw Error(`the tests fail without any change: ${broken}`);
const explained = fs.readFileSync(path.join(contracts, "README.md"), "utf8");
let total = 0, survivors = 0, unexplained = 0;
mutants.forEach(({ where, what }, i) => {
    if (!where.includes(filter)) return;
    total++;
    const failure = test(first + i);
    if (failure) {
        console.log(`noticed   ${where}  ${what}: ${failure.slice(0, 200)}`);
        return;
    }
    survivors++;
    const known = explained.includes(`\`${where.replace(/:.*/, "")}\` | \`${what}\``);
    if (!known) unexplained++;
    console.log(`SURVIVED  ${where}  ${what}${known ? " (explained in contracts/README.md)" : ""}`);
});
console.log(`${total} mutants, ${survivors} survived, ${unexplained} of them unexplained`);
process.exit(unexplained ? 1 : 0);
