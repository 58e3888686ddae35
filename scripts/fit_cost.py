#!/usr/bin/env python3
"""Fits the coefficients of crates/witness/src/cost/risc0.json to measured blocks.

    l2-prover --json bench cycles FILE… > cycles.json        # real blocks, one line each
    l2-prover --json bench worst > worst.json                # for precompiles and arithmetic
    python3 scripts/fit_cost.py --cycles cycles.json --worst worst.json --out crates/witness/src/cost/risc0.json

Each phase of the program is fitted by itself, to the few numbers that it is about, and the keccak permutations likewise. Prints the
errors of each real block, predicted by a fit that did not see it: of total cycles, and of proving cycles, which count permutations too.
Needs numpy and scipy.
"""

import argparse
import json

import numpy as np
from scipy.optimize import nnls

# Total cycles are user cycles and paging in segments that are never quite full.
SEGMENTS = 1.03
SIZES = (
    "blocks", "transactions", "block bytes", "header bytes", "codes", "code bytes", "node bytes", "new node bytes", "keys", "bloom keys",
)
# The quantities that each phase's cycles depend on.
PHASES = {
    "input": ("block bytes", "header bytes", "transactions"),
    "pre-state": ("node bytes",),
    "codes": ("code bytes",),
    "senders": ("transactions",),
    "execution": ("instruction", "hash", "new node bytes"),
    "post-state": ("new node bytes", "transactions"),
    "receipts": ("log bytes", "bloom keys", "transactions"),
    "outside": ("blocks", "instruction"),
}
# A permutation takes in 136 bytes; the last one of a code is half empty. What else is hashed goes with the numbers in `HASHED`.
ABSORBED = {"code bytes": 1 / 136, "codes": 0.5, "block bytes": 1 / 136, "keys": 1}
HASHED = ("node bytes", "new node bytes", "log bytes", "transactions", "hash")
# What a permutation costs to prove, in cycles: protocol::PERMUTATION_CYCLES.
PERMUTATION_CYCLES = 680
# Cycles of an opcode that only moves words.
SIMPLE = 50
# Opcodes whose cost their own blocks tell: an attacker can fill a block with them. That of EXP goes with its gas.
ARITHMETIC = ("MUL", "DIV", "SDIV", "MOD", "SMOD", "ADDMOD", "MULMOD")


def log_bytes(topics):
    """Bytes of a log's RLP: for each log with so many topics, and for each gas, which is 375 for each of both and 8 for a byte."""
    name = f"LOG{topics}"
    return {name: 24 + 33 * topics - 375 * (1 + topics) / 8, f"{name} gas": 1 / 8}


LOG_BYTES = {name: value for topics in range(5) for name, value in log_bytes(topics).items()}


# Gas of hashes beyond that of 64 bytes, which most have: 6 for a word.
LONGER_HASHES = {"KECCAK256": -42, "KECCAK256 gas": 1}


def rows(path):
    """One JSON document in each line: a row or a list of rows."""
    with open(path) as file:
        documents = [json.loads(line) for line in file if line.strip()]
    return [row for part in documents for row in (part if isinstance(part, list) else [part])]


def is_instruction(name):
    return name not in SIZES and not name.endswith(" gas") and not name.startswith("precompile")


def summed(features):
    """The numbers that `PHASES` names."""
    numbers = {name: features.get(name, 0) for name in SIZES}
    numbers["instruction"] = sum(count for name, count in features.items() if is_instruction(name))
    numbers["hash"] = features.get("KECCAK256", 0)
    numbers["log bytes"] = linear(LOG_BYTES, features)
    return numbers


def measured(worst):
    """Cycles of what has blocks of its own, less the cost of a block that does nothing: per gas of each precompile, in its most
    expensive block, and per gas of EXP; for each use of the arithmetic opcodes, in their cheapest."""
    least = min(row["user_cycles"] + row["paging_cycles"] for row in worst)
    dearest, cheapest = {}, {}
    for row in worst:
        for name, gas in row["features"].items():
            if name.startswith("precompile") and name.endswith(" gas") and gas > 0:
                each = (row["user_cycles"] + row["paging_cycles"] - least) / gas
                dearest[name] = max(each, dearest.get(name, 0))
        opcode, above = row["name"].split(",")[0], row["user_cycles"] + row["paging_cycles"] - least
        if opcode in ARITHMETIC:
            # Its two or three operands are pushed or copied, and its result is dropped.
            each = above / row["features"][opcode] - 3 * SIMPLE
            cheapest[opcode] = min(max(each, 0), cheapest.get(opcode, each))
        if opcode.startswith("KECCAK256"):
            longer = linear(LONGER_HASHES, row["features"])
            if longer > 0.9 * row["features"]["KECCAK256 gas"]:
                each = above / longer
                cheapest |= {name: value * each for name, value in LONGER_HASHES.items()}
        if opcode == "EXP":
            cheapest["EXP gas"] = max(above / row["features"]["EXP gas"], cheapest.get("EXP gas", 0))
    return dearest | cheapest


def linear(coefficients, features):
    return sum(coefficients.get(name, 0) * value for name, value in features.items())


def least(real, names, target, whole):
    """Non-negative coefficients of `names` for the numbers `target`, with the least errors relative to the numbers `whole`."""
    matrix = np.array([[summed(row["features"])[name] / row[whole] for name in names] for row in real])
    scale = np.maximum(matrix.max(axis=0), 1e-12)
    solution, _ = nnls(matrix / scale, np.array([value / row[whole] for value, row in zip(target, real)]))
    return dict(zip(names, solution / scale))


def fit_permutations(real):
    """Permutations for each number that decides how much is hashed."""
    longer = {name: 32 / 6 / 136 * value for name, value in LONGER_HASHES.items()}
    rest = [row["keccak_permutations"] - linear(ABSORBED | longer, row["features"]) for row in real]
    found = least(real, HASHED, rest, "keccak_permutations")
    logs = {name: value * found["log bytes"] for name, value in LOG_BYTES.items()}
    sizes = {name: found[name] for name in HASHED if name in SIZES}
    return ABSORBED | sizes | logs | longer | {"KECCAK256": found["hash"] + longer["KECCAK256"]}


def fit(real, known):
    """Non-negative cycles for each number of each phase, with the least errors relative to the whole block."""
    phases = {}
    for phase, names in PHASES.items():
        target = []
        for row in real:
            cycles = dict(row["phases"])[phase]
            cycles = cycles["user"] + cycles["paging"]
            if phase == "execution":
                cycles -= linear(known, row["features"])
            target.append(cycles)
        for name, value in least(real, names, target, "user_cycles").items():
            phases[name] = phases.get(name, 0) + value
    # The flat numbers: cycles for one use of each opcode.
    flat = {name: value for name, value in phases.items() if name in SIZES or name == "instruction"}
    flat |= {name: value + (phases["instruction"] if is_instruction(name) else 0) for name, value in known.items()}
    flat["KECCAK256"] += phases["hash"]
    for name, value in LOG_BYTES.items():
        flat[name] = phases["log bytes"] * value + (phases["instruction"] if is_instruction(name) else 0)
    return {name: SEGMENTS * value for name, value in flat.items()}


def predict(coefficients, features):
    others = sum(count for name, count in features.items() if is_instruction(name) and name not in coefficients)
    return linear(coefficients, features) + coefficients["instruction"] * others


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", required=True)
    parser.add_argument("--worst", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    real, known = rows(arguments.cycles), measured(rows(arguments.worst))
    print("| block | total cycles | predicted without it | error | in the fit | proving cycles | error without it |\n|---|---|---|---|---|---|---|")
    everything, permutations = fit(real, known), fit_permutations(real)
    for held_out, row in enumerate(real):
        others = real[:held_out] + real[held_out + 1 :]
        predicted = predict(fit(others, known), row["features"])
        name = row["name"].rsplit("/", 1)[-1].removesuffix(".json.zst")
        errors = [100 * (value / row["total_cycles"] - 1) for value in (predicted, predict(everything, row["features"]))]
        price = row["total_cycles"] + PERMUTATION_CYCLES * row["keccak_permutations"]
        predicted_price = predicted + PERMUTATION_CYCLES * linear(fit_permutations(others), row["features"])
        print(
            f"| {name} | {row['total_cycles']:,} | {predicted:,.0f} | {errors[0]:+.1f} % | {errors[1]:+.1f} % "
            f"| {price:,} | {100 * (predicted_price / price - 1):+.1f} % |"
        )
    rounded = lambda model: {name: float(f"{value:.5g}") for name, value in sorted(model.items()) if value}
    with open(arguments.out, "w") as file:
        json.dump({"cycles": rounded(everything), "permutations": rounded(permutations)}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
