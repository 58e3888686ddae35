"""Makes scenarios from seeds, runs them through `l2-prover conformance` and keeps those that differ.

    python3 -m scenarios.run --seeds 10000 --prover path/to/l2-prover

Seeds are made in two processes; each chunk of them is one call of the prover.
"""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from . import families
from .chain import Undecided
from .spec import FORKS

CHUNK = 250


def scenario(seed, family=None):
    """`(name, fixture, blocks that must be refused)` of a seed; `None` if the specification leaves it undecided."""
    family = family or families.of_seed(seed)
    rng = random.Random(f"{family} {seed}")
    fork = rng.choice(FORKS)
    try:
        chain = families.maker(family)(rng, fork)
    except Undecided:
        return None
    return f"{family}/{seed}", chain.fixture(), chain.refused


def _chunk(task):
    seeds, family, prover, keep = task
    made, counts, failures = {}, collections.Counter(), []
    for seed in seeds:
        try:
            one = scenario(seed, family)
        except Exception as error:
            failures.append(
                (f"{family or families.of_seed(seed)}/{seed}", f"not made: {type(error).__name__}: {error}")
            )
            continue
        name = family or families.of_seed(seed)
        if one is None:
            counts[name, "undecided"] += 1
            continue
        made[one[0]] = one[1]
        counts[name, "scenarios"] += 1
        counts[name, "blocks"] += len(one[1]["blocks"])
        counts[name, "refused"] += one[2]
    for test, reason in judge(made, prover):
        failures.append((test, reason))
        if test in made:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / (test.replace("/", "-") + ".json")).write_text(json.dumps({test: made[test]}) + "\n")
    return counts, failures


def judge(fixtures, prover):
    """What `l2-prover conformance` says against these fixtures: pairs of name and reason."""
    if not fixtures:
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "scenarios.json")
        path.write_text(json.dumps(fixtures))
        command = [prover, "--json", "conformance", "--jobs", "1", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        return [("the whole chunk", (done.stdout + done.stderr)[-2000:])]
    ran = sum(counts["passed"] + counts["failed"] for counts in report["networks"].values())
    found = [(failed["test"], failed["reason"]) for failed in report["failures"]]
    return found if ran == len(fixtures) else found + [("the whole chunk", f"{ran} of {len(fixtures)} were run")]


def _range(text):
    first, dots, end = text.rpartition("..")
    return range(int(first or 0), int(end))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=_range, default=range(10_000), metavar="[FROM..]TO", help="TO is not among them"
    )
    parser.add_argument("--family", choices=sorted(families.WEIGHTS), help="only this one, for every seed")
    parser.add_argument("--prover", default=os.environ.get("L2_PROVER", "l2-prover"), help="the l2-prover binary")
    parser.add_argument(
        "--keep", type=pathlib.Path, default=pathlib.Path("scenarios-failed"), help="where differences are kept"
    )
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    started = time.monotonic()
    chunks = [args.seeds[at : at + CHUNK] for at in range(0, len(args.seeds), CHUNK)]
    tasks = [(chunk, args.family, args.prover, args.keep) for chunk in chunks]
    counts, failures = collections.Counter(), []
    with multiprocessing.Pool(args.processes) as pool:
        for some, failed in pool.imap(_chunk, tasks):
            counts += some
            failures += failed
            for test, reason in failed:
                print(f"DIFFERS {test}\n  {reason}", flush=True)
    total = report(counts)
    print(f"{total} scenarios of the seeds {args.seeds[0]} to {args.seeds[-1]}, {time.monotonic() - started:.0f} s")
    if failures:
        sys.exit(f"{len(failures)} differences; the scenarios are in {args.keep}")


def report(counts):
    """Prints the counts by family, and returns how many scenarios there are."""
    print("| family | scenarios | blocks | of these refused |\n|---|---|---|---|")
    columns = ("scenarios", "blocks", "refused")
    for name in families.WEIGHTS:
        if counts[name, "scenarios"] or counts[name, "undecided"]:
            left = f", {counts[name, 'undecided']} undecided" if counts[name, "undecided"] else ""
            print(f"| {name}{left} | " + " | ".join(f"{counts[name, column]:,}" for column in columns) + " |")
    sums = [sum(counts[name, column] for name in families.WEIGHTS) for column in columns]
    print("| all | " + " | ".join(f"{value:,}" for value in sums) + " |")
    return f"{sums[0]:,}"


if __name__ == "__main__":
    main()
