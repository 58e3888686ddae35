#!/usr/bin/env python3
"""Writes scripts/build_weights.txt: what each crate of l2-prover takes to build, for scripts/build.sh.

  cargo build --profile quick -p l2 --bin l2-prover --timings     # into an empty target folder
  scripts/build_weights.py TARGET/cargo-timings/cargo-timing.html CPU_SECONDS > scripts/build_weights.txt

CPU_SECONDS is what the shell's `time` says, user and sys: how busy the machine was does not count.
"""
import json
import re
import sys
from collections import defaultdict

page, cpu_seconds = open(sys.argv[1]).read(), float(sys.argv[2])
units = json.loads(re.search(r"const UNIT_DATA = (\[.*?\]);\n", page, re.S)[1])
scale = 1000 * cpu_seconds / sum(unit["duration"] for unit in units)

took, crates, script_of = defaultdict(float), defaultdict(int), {}
for unit in units:
    took[unit["name"]] += unit["duration"] * scale
    if "build-script" not in unit["target"]:
        crates[unit["name"]] += 1
each = {name: took[name] / crates[name] for name in took if crates[name]}
heavy = {name: ms for name, ms in each.items() if ms >= 700}
light = [name for name in each if name not in heavy]
other = sum(took[name] for name in light) / sum(crates[name] for name in light)

print("# Made by scripts/build_weights.py: see there, and scripts/build.sh.")
print(f"- {other:.0f}")
# CPU time of `cargo build --release -p l2` over that of the quick profile.
print("% 500")
# RISC Zero's C++: 75 CPU minutes, divided by the size of what is made.
for name, minutes in [("keccak", 35), ("rv32im", 21), ("recursion", 19)]:
    print(f"risc0-circuit-{name}-sys {minutes * 60_000} c++")
for name, ms in sorted(heavy.items(), key=lambda item: -item[1]):
    print(f"{name} {ms:.0f}" + (" last" if name in ("server", "settlement", "l2") else ""))
