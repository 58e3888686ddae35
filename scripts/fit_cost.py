#!/usr/bin/env python3
"""Fits the coefficients of crates/witness/src/cost/risc0.json to measured blocks.

    l2-prover --json bench cycles FILE… > cycles.json        # real blocks, one line each
    l2-prover --json bench worst > worst.json                # blocks of one opcode or precompile each
    python3 scripts/fit_cost.py --cycles cycles.json --worst worst.json --out crates/witness/src/cost/risc0.json

Prints the error of each real block, predicted by a fit that did not see it. Needs numpy and scipy.
"""

import argparse
import json
import re

import numpy as np
from scipy.optimize import nnls

# Total cycles are user cycles and paging in segments that are never quite full.
SEGMENTS = 1.03
# Gas is only told apart from the count where one use can cost more than another.
DYNAMIC = {
    "EXP", "KECCAK256", "CALLDATACOPY", "CODECOPY", "MCOPY", "EXTCODECOPY", "RETURNDATACOPY", "LOG",
    "CREATE", "CREATE2", "SLOAD", "SSTORE", "BALANCE", "EXTCODESIZE", "EXTCODEHASH", "CALL", "CALLCODE",
    "DELEGATECALL", "STATICCALL", "SELFDESTRUCT",
}  # fmt: skip
# A real block counts as much as so many made ones: it is what is predicted.
WEIGHT = 20.0


def rows(path):
    with open(path) as file:
        text = file.read()
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        parsed = [json.loads(line) for line in text.splitlines() if line]
    flat = [row for part in (parsed if isinstance(parsed, list) else [parsed]) for row in (part if isinstance(part, list) else [part])]
    return [{**row, "features": family(row["features"])} for row in flat]


def family(features):
    """As witness::cost: PUSH1 to PUSH32 are one instruction, and so on."""
    summed = {}
    for name, value in features.items():
        name = re.sub(r"^(PUSH|DUP|SWAP|LOG)[0-9]+", r"\1", name)
        summed[name] = summed.get(name, 0) + value
    return summed


def wanted(name):
    if name.startswith("precompile") or not name.endswith(" gas"):
        return True
    return name.removesuffix(" gas") in DYNAMIC


def fit(samples, names):
    """Non-negative coefficients with the least relative errors."""
    matrix = np.zeros((len(samples), len(names)))
    for row, (features, cycles, weight) in enumerate(samples):
        for column, name in enumerate(names):
            matrix[row, column] = features.get(name, 0) * weight / cycles
    target = np.array([weight for _, _, weight in samples])
    # Columns of like size, and a little preference for small coefficients: many features always come together.
    scale = np.maximum(matrix.max(axis=0), 1e-12)
    ridge = 1e-3 * np.eye(len(names))
    solution, _ = nnls(np.vstack([matrix / scale, ridge]), np.concatenate([target, np.zeros(len(names))]))
    return dict(zip(names, solution / scale))


def predict(coefficients, features):
    return sum(coefficients.get(name, 0) * value for name, value in features.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", required=True)
    parser.add_argument("--worst", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    worst = [(row["features"], SEGMENTS * (row["user_cycles"] + row["paging_cycles"]), 1.0) for row in rows(arguments.worst)]
    real = rows(arguments.cycles)
    samples = [
        (row["features"], SEGMENTS * (row["user_cycles"] + row["paging_cycles"]), WEIGHT) for row in real
    ]
    names = sorted({name for features, _, _ in worst + samples for name in features if wanted(name)})
    print("| block | total cycles | predicted without it | error |\n|---|---|---|---|")
    for held_out, row in enumerate(real):
        others = [sample for index, sample in enumerate(samples) if index != held_out]
        predicted = predict(fit(worst + others, names), row["features"])
        name = row["name"].rsplit("/", 1)[-1].removesuffix(".json.zst")
        error = 100 * (predicted / row["total_cycles"] - 1)
        print(f"| {name} | {row['total_cycles']:,} | {predicted:,.0f} | {error:+.1f} % |")
    coefficients = fit(worst + samples, names)
    with open(arguments.out, "w") as file:
        json.dump({name: float(f"{value:.6g}") for name, value in coefficients.items() if value > 0}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
