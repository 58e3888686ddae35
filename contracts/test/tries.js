// Proofs for test/Trie.t.sol: random secure tries, proofs of what is in them and of what is not, and proofs that were changed: bytes and
// whole nodes, with the hashes above them made right again, as in the state of an attacker who could have malformed nodes.
//
// What has to happen to each is said by a verifier of its own, written otherwise than the contract's: it decodes a node as RLP, encodes it
// again and compares, and only then asks what the node is.
//
//   NODE_PATH=… node tries.js FILE [SEED [TRIES]]        (js-sha3 comes with solc)
//
// FILE: cases, each: kind (0 word, 1 account), verdict (0 refused, 1 accepted), root, key (32 bytes, an account's address at their end),
// two words of result, the number of nodes (1 byte), and the nodes, each with its length (2 bytes).
const fs = require("fs");
const { keccak256 } = require("js-sha3");
const keccak = (bytes) => Buffer.from(keccak256.arrayBuffer(bytes));

// Random numbers from a seed: xorshift32.
let state = Number(process.argv[3] ?? 1) * 2654435761 >>> 0 || 1;
function random(below) {
    state ^= state << 13; state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5; state >>>= 0;
    return state % below;
}
const randomBytes = (n) => Buffer.from(Array.from({ length: n }, () => random(256)));
const pick = (list) => list[random(list.length)];

// RLP: a Buffer is a string, an array a list. A list within a list is kept as it is: nothing beside the path is looked into.
class Inner {
    constructor(body) { this.body = body; }
}
const isList = (item) => Array.isArray(item) || item instanceof Inner;

function encode(item) {
    const list = isList(item);
    const body = item instanceof Inner ? item.body : list ? Buffer.concat(item.map(encode)) : item;
    if (!list && body.length === 1 && body[0] < 0x80) return body;
    const base = list ? 0xc0 : 0x80;
    if (body.length < 56) return Buffer.concat([Buffer.from([base + body.length]), body]);
    const hex = body.length.toString(16);
    const length = Buffer.from(hex.length % 2 ? "0" + hex : hex, "hex");
    return Buffer.concat([Buffer.from([base + 55 + length.length]), length, body]);
}

// Lenient: throws only where bytes are missing. Returns the item and the rest.
function decode(bytes, inner = false) {
    const tag = bytes[0];
    if (tag === undefined) throw Error("empty");
    if (tag < 0x80) return [bytes.subarray(0, 1), bytes.subarray(1)];
    const list = tag >= 0xc0;
    let length = tag - (list ? 0xc0 : 0x80);
    let start = 1;
    if (length > 55) {
        start = 1 + length - 55;
        if (bytes.length < start) throw Error("cut");
        length = Number("0x" + bytes.subarray(1, start).toString("hex"));
    }
    if (bytes.length < start + length) throw Error("cut");
    let body = bytes.subarray(start, start + length);
    const rest = bytes.subarray(start + length);
    if (!list) return [body, rest];
    if (inner) return [new Inner(body), rest];
    const items = [];
    while (body.length) {
        const [item, after] = decode(body, true);
        items.push(item);
        body = after;
    }
    return [items, rest];
}

function strict(bytes) {
    const [item] = decode(bytes);
    if (!encode(item).equals(bytes)) throw Error("not canonical");
    return item;
}

// Tries.
const nibbles = (bytes) => Array.from(bytes).flatMap((byte) => [byte >> 4, byte & 15]);

function hexPrefix(path, leaf) {
    const flag = (leaf ? 2 : 0) + path.length % 2;
    const all = path.length % 2 ? [flag, ...path] : [flag, 0, ...path];
    return Buffer.from(all.flatMap((n, i) => (i % 2 ? [] : [n * 16 + all[i + 1]])));
}

const asChild = (node) => (encode(node).length < 32 ? node : keccak(encode(node)));

// The node of some entries [nibbles, value], all of which agree before `depth`; and the encoded nodes to `target` if it is given.
function build(entries, depth, target, out) {
    const at = out.length;
    out.push(null);
    let node;
    if (entries.length === 1) {
        node = [hexPrefix(entries[0][0].slice(depth), true), entries[0][1]];
    } else {
        let end = depth;
        while (entries.every(([path]) => path[end] === entries[0][0][end])) end++;
        if (end > depth) {
            node = [hexPrefix(entries[0][0].slice(depth, end), false), asChild(build(entries, end, target, out))];
        } else {
            node = [];
            for (let i = 0; i < 16; i++) {
                const below = entries.filter(([path]) => path[depth] === i);
                const wanted = target && target[depth] === i;
                node.push(below.length ? asChild(build(below, depth + 1, wanted ? target : null, wanted ? out : [])) : Buffer.alloc(0));
            }
            node.push(Buffer.alloc(0));
        }
    }
    out[at] = encode(node);
    return node;
}

// The proof of a path: eth_getProof leaves out the nodes that stand in their parents.
function prove(entries, target) {
    const out = [];
    build(entries, 0, target, out);
    return out.filter((node, i) => i === 0 || node.length >= 32);
}

// What the contract must say: the two words, or an error.
function verify(kind, root, key, proof) {
    const path = nibbles(keccak(kind ? key.subarray(12) : key));
    let expected = root;
    let depth = 0;
    for (let level = 0; level < proof.length; level++) {
        if (!keccak(proof[level]).equals(expected)) throw Error("hash");
        const node = strict(proof[level]);
        if (!Array.isArray(node)) throw Error("string");
        if (node.length === 17) {
            if (depth >= 64) throw Error("deep");
            for (const item of node.slice(0, 16)) {
                if (isList(item) ? encode(item).length >= 32 : ![0, 32].includes(item.length)) throw Error("child");
            }
            if (isList(node[16]) || node[16].length) throw Error("value of a branch");
            expected = node[path[depth++]];
            if (isList(expected) || !expected.length) throw Error("absent or embedded");
        } else if (node.length === 2) {
            const [prefix, second] = node;
            if (isList(prefix) || isList(second) || !prefix.length) throw Error("shape");
            const all = nibbles(prefix);
            if (all[0] > 3) throw Error("flag");
            const leaf = all[0] >= 2;
            const rest = all.slice(all[0] % 2 ? 1 : 2);
            if (!hexPrefix(rest, leaf).equals(prefix)) throw Error("prefix");
            if (rest.some((n, i) => n !== path[depth + i])) throw Error("absent");
            depth += rest.length;
            if (!leaf) {
                if (second.length !== 32 || !rest.length || depth >= 64) throw Error("extension");
                expected = second;
                continue;
            }
            if (depth !== 64 || level !== proof.length - 1) throw Error("leaf");
            const value = strict(second);
            if (!kind) {
                if (Array.isArray(value) || value.length !== 32 || !value[0]) throw Error("word");
                return [value, Buffer.alloc(32)];
            }
            if (!Array.isArray(value) || value.length !== 4 || value.some(isList)) throw Error("account");
            if (value[2].length !== 32 || value[3].length !== 32) throw Error("account");
            for (const number of value.slice(0, 2)) {
                if (number.length > 32 || (number.length && !number[0])) throw Error("number");
            }
            return value.slice(2);
        } else {
            throw Error("items");
        }
    }
    throw Error("short");
}

// A proof with another node at `level`, and the hashes above it made right.
function replace(proof, level, node) {
    const out = [...proof];
    let old = keccak(proof[level]);
    out[level] = node;
    for (let i = level - 1; i >= 0; i--) {
        const next = keccak(out[i + 1]);
        const at = proof[i].indexOf(old);
        if (at < 0) return null;
        out[i] = Buffer.concat([proof[i].subarray(0, at), next, proof[i].subarray(at + 32)]);
        old = keccak(proof[i]);
    }
    return out;
}

// Some other node instead of this one.
function change(node) {
    const bytes = Buffer.from(node);
    const at = random(3) ? random(Math.min(4, bytes.length)) : random(bytes.length);
    switch (random(11)) {
        case 0: bytes[at] ^= 1 << random(8); return bytes;
        case 1: bytes[at] = pick([0, 0x7f, 0x80, 0x81, 0xa0, 0xb7, 0xb8, 0xbf, 0xc0, 0xf7, 0xf8, 0xf9, 0xff]); return bytes;
        case 2: return bytes.subarray(0, bytes.length - 1 - random(3));
        case 3: return Buffer.concat([bytes, randomBytes(1 + random(2))]);
        case 4: return Buffer.concat([bytes.subarray(0, at), randomBytes(1), bytes.subarray(at)]);
        case 5: return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
    }
    // The same, as items.
    let items;
    try { items = decode(node)[0]; } catch { return bytes; }
    if (!Array.isArray(items) || !items.length) return bytes;
    const which = random(items.length);
    switch (random(9)) {
        case 0: items[which] = randomBytes(pick([0, 1, 2, 31, 32, 33])); break;
        case 1: items.splice(which, 1); break;
        case 2: items.splice(which, 0, Buffer.alloc(0)); break;
        case 3: items[which] = pick([[], [randomBytes(2)], [randomBytes(29)], [randomBytes(30)], [randomBytes(31)], [items[which]]]); break;
        case 4: items[items.length - 1] = pick([Buffer.from([1]), Buffer.alloc(32), encode(randomBytes(32)), []]); break;
        case 5: if (items.length === 2 && !isList(items[0]) && items[0].length) items[0] = Buffer.from([items[0][0] ^ pick([0x10, 0x20, 0x40, 0x80, 1]), ...items[0].subarray(1)]); break;
        case 6: items[0] = pick([Buffer.from([0]), Buffer.from([0x20]), Buffer.from([0x10]), Buffer.alloc(0)]); break;
        case 7: {
            // A length that is longer than it has to be.
            const body = Buffer.concat(items.map(encode));
            const size = [Math.floor(body.length / 65536), Math.floor(body.length / 256) % 256, body.length % 256];
            const n = pick([1, 2, 3]);
            return Buffer.concat([Buffer.from([0xf7 + n, ...size.slice(3 - n)]), body]);
        }
        case 8: {
            // The value of a leaf, or whatever is last, changed within.
            const last = items.length - 1;
            if (isList(items[last]) || !items[last].length) break;
            items[last] = change(items[last]);
        }
    }
    return encode(items);
}

const cases = [];
const counts = {};
function add(kind, root, key, proof) {
    if (proof.some((node) => node.length > 0xffff) || proof.length > 255) return;
    let verdict = 1, words, why = "accepted";
    try {
        words = verify(kind, root, key, proof);
    } catch (error) {
        [verdict, words, why] = [0, [Buffer.alloc(32), Buffer.alloc(32)], error.message];
    }
    counts[why] = (counts[why] ?? 0) + 1;
    const padded = Buffer.concat([Buffer.alloc(32 - key.length), key]);
    const nodes = proof.flatMap((node) => [Buffer.from([node.length >> 8, node.length & 255]), node]);
    cases.push(Buffer.concat([Buffer.from([kind, verdict]), root, padded, ...words, Buffer.from([proof.length]), ...nodes]));
}

const tries = Number(process.argv[4] ?? 2000);
for (let i = 0; i < tries; i++) {
    const kind = random(2);
    const size = pick([1, 1, 2, 2, 3, 5, 8, 17, 40]);
    const keys = Array.from({ length: size }, () => (kind ? Buffer.concat([Buffer.alloc(12), randomBytes(20)]) : randomBytes(32)));
    const hash = (key) => keccak(kind ? key.subarray(12) : key);
    const value = () => {
        if (kind) return encode([randomBytes(random(3)).map((b) => b | 1), randomBytes(random(9)).map((b) => b | 1), randomBytes(32), randomBytes(32)]);
        // Mostly words of the Outbox; small ones too, which stand in their parents deep in a trie.
        const word = random(8) ? randomBytes(32) : Buffer.from([1 + random(200)]);
        if (word.length === 32) word[0] |= 0x80;
        return encode(word);
    };
    const entries = keys.map((key) => [nibbles(hash(key)), value()]);
    const at = random(size);
    const path = entries[at][0];
    // Neighbours that leave the path late, as somebody can grind them: extensions, deep branches, leaves in their parents.
    for (let n = random(4); n > 0; n--) {
        const near = [...path];
        const from = pick([1, 2, 3, 9, 20, 40, 54, 60, 62, 63]);
        near[from] ^= 1 + random(15);
        for (let j = from + 1; j < 64; j++) near[j] = random(16);
        if (!entries.some(([other]) => other.every((n, j) => n === near[j]))) entries.push([near, value()]);
    }
    const proof = prove(entries, path);
    const root = keccak(proof[0]);
    const key = keys[at];
    add(kind, root, key, proof);
    // Another key of the trie, or none of it, with the same proof; the other kind of value.
    add(kind, root, pick(keys), proof);
    add(kind, root, kind ? Buffer.concat([Buffer.alloc(12), randomBytes(20)]) : randomBytes(32), proof);
    const absent = kind ? Buffer.concat([Buffer.alloc(12), randomBytes(20)]) : randomBytes(32);
    add(kind, root, absent, prove(entries, nibbles(hash(absent))));
    add(1 - kind, root, key, proof);
    add(kind, root, key, proof.slice(0, -1));
    add(kind, root, key, [...proof, pick(proof)]);
    if (proof.length > 1) add(kind, root, key, proof.slice(1));
    for (let n = 0; n < 12; n++) {
        const level = random(2) ? proof.length - 1 : random(proof.length);
        const changed = replace(proof, level, change(proof[level]));
        if (changed) add(kind, random(8) ? keccak(changed[0]) : root, key, changed);
    }
}
// In parts: the memory of a test costs more the more there is.
const parts = [[]];
let size = 0;
for (const one of cases) {
    if (size + one.length > 400_000) { parts.push([]); size = 0; }
    parts[parts.length - 1].push(one);
    size += one.length;
}
parts.forEach((part, i) => fs.writeFileSync(`${process.argv[2]}.${i}`, Buffer.concat(part)));
fs.writeFileSync(`${process.argv[2]}.parts`, String(parts.length));
console.log(`${cases.length} proofs in ${parts.length} files:`, JSON.stringify(counts));
