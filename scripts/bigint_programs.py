#!/usr/bin/env python3
"""Prints the equations that RISC Zero's big-integer circuit checks in a program of the crate risc0-bigint2.

    scripts/bigint_programs.py RISC0_BIGINT2/src/ec/ec_add_256.blob RISC0_BIGINT2/src/field/modmul_4096.blob

A program has two parts. The first tells an honest host how to find its numbers, and proves nothing. The second is what the
circuit checks, an instruction for each 16 bytes: it sums products of numbers and demands that the sum is zero. Only the
second part is read here. `x11[0..1]` are the 16-byte parts 0 and 1 of what register x11 points to (x11, x12 and so on are
the call's arguments, x2 is the stack, x28 the program's constants); `host x2[0..2]` is chosen by the host, and any bytes will do.
"""

import pathlib
import struct
import sys

READ, WRITE, CHECK = range(3)
RESET, SHIFT, SET_TERM, ADD_TOTAL, CARRY_1, CARRY_2, EQUAL_ZERO = range(7)


def number(parts):
    """The name of a number whose parts were read in this order, the highest first."""
    kinds = {(memory, register) for memory, register, _ in parts}
    offsets = [offset for _, _, offset in parts]
    assert len(kinds) == 1, "a number lies in one place"
    assert offsets == list(range(offsets[0], offsets[0] - len(offsets), -1)), "a number has no gaps"
    memory, register = kinds.pop()
    return f"{'host ' if memory == WRITE else ''}x{register}[{offsets[-1]}..{offsets[0]}]"


def equations(blob):
    """The sums that must be zero, and the sizes of the program's parts."""
    first, checked, constants, _ = struct.unpack_from("<4I", blob)
    words = struct.unpack(f"<{len(blob) // 4}I", blob)
    program = words[4 + first : 4 + first + checked]
    parts, factor, total = [], None, []
    for word in program:
        memory, operation = word >> 28, word >> 24 & 15
        coefficient, register, offset = (word >> 21 & 7) - 4, word >> 16 & 31, word & 0xFFFF
        nothing = memory == CHECK and register == 0
        if operation in (SHIFT, SET_TERM, ADD_TOTAL) and not nothing:
            assert memory in (READ, WRITE), "what is summed was read or written"
            parts.append((memory, register, offset))
        if operation == SET_TERM:
            factor, parts = number(parts), []
        elif operation == ADD_TOTAL:
            product = number(parts) if factor is None else f"{factor} * {number(parts)}"
            total.append(f"{coefficient:+d} {product}")
            factor, parts = None, []
        elif operation in (CARRY_1, CARRY_2):
            pass  # Carries are bytes of the host's, multiplied by (x - 256): they add nothing at x = 256.
        elif operation == EQUAL_ZERO:
            yield " ".join(total)
            parts, factor, total = [], None, []
        elif operation == RESET:
            assert not total, "nothing is summed and then forgotten"
            parts, factor = [], None
    constants = words[4 + first + checked :][:constants]
    if constants:
        yield "constants: " + " ".join(hex(word) for word in constants)


for path in sys.argv[1:]:
    print(pathlib.Path(path).name)
    for equation in equations(pathlib.Path(path).read_bytes()):
        print("   ", equation if equation.startswith("constants") else f"{equation} = 0")
