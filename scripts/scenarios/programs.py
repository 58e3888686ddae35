"""Random contracts over a small world of addresses and slots, which write down what they see."""

from .asm import Data, Label, code, deploy
from .spec import since

SLOTS = (0, 1, 2, 0x80)


class World:
    """The addresses that a scenario's contracts deal with, and what they may do there."""

    def __init__(self, rng, fork):
        self.rng, self.fork = rng, fork
        self.addresses = []
        self.init_codes = []
        self._probe = 0x1000

    def program(self, steps=4):
        """Code with one to three branches; the length of the call data chooses one."""
        branches = [self._branch(steps) for _ in range(self.rng.choice((1, 2, 2, 3)))]
        if len(branches) == 1:
            return code(branches[0])
        labels = [Label() for _ in branches]
        choose = [["CALLDATASIZE", at, "EQ", (label,), "JUMPI"] for at, label in enumerate(labels[1:], 1)]
        body = [[label, branch] for label, branch in zip(labels, branches)]
        return code(choose, body)

    def init_code(self, runtime):
        """Code that deploys `runtime`, or something like it."""
        rng = self.rng
        way = rng.choice(("plain", "plain", "writes", "writes", "destroys", "reverts", "empty", "odd", "calls"))
        if way == "plain":
            return deploy(runtime)
        if way == "writes":
            return deploy(runtime, [rng.randrange(1, 9), rng.choice(SLOTS), "SSTORE"], self._look())
        if way == "destroys":
            return code([5, 1, "SSTORE"], self._some(), "SELFDESTRUCT")
        if way == "reverts":
            return code([1, 1, "SSTORE"], 0, 0, rng.choice(("REVERT", "INVALID")))
        if way == "empty":
            return rng.choice((b"", code([rng.randrange(3), 1, "SSTORE"])))
        if way == "odd":
            return deploy(rng.choice((b"\xef", b"\xef\x01\x00" + self._some(), b"\xfe", b"\x00" * 24_577)))
        return deploy(runtime, self._call(), self._step())

    def _some(self):
        return self.rng.choice(self.addresses)

    def _branch(self, steps):
        rng = self.rng
        body = [self._step() for _ in range(rng.randrange(1, steps + 1))]
        end = rng.choice(("STOP", "STOP", "STOP", "destroy", "destroy", "REVERT", "INVALID"))
        if end == "destroy":
            return [body, self._some() if rng.random() < 0.8 else "ADDRESS", "SELFDESTRUCT"]
        if end == "REVERT":
            return [body, 0, 0, "REVERT"] if rng.random() < 0.3 else [body, "STOP"]
        if end == "INVALID":
            return [body, "INVALID"] if rng.random() < 0.2 else [body, "STOP"]
        return [body, "STOP"]

    def _step(self):
        kind = self.rng.choices(
            (self._write, self._look, self._call, self._create, self._transient, self._log), (4, 5, 5, 4, 1, 1)
        )[0]
        return kind()

    def _write(self):
        rng = self.rng
        if rng.random() < 0.2:
            slot = rng.choice(SLOTS)
            return [1, slot, "SLOAD", "ADD", slot, "SSTORE"]
        return [rng.choice((0, 0, 1, 2, 2**255)), rng.choice(SLOTS), "SSTORE"]

    def _look(self):
        rng = self.rng
        what = rng.choice(
            ("EXTCODEHASH", "EXTCODEHASH", "BALANCE", "EXTCODESIZE", "SLOAD", "GAS", "SELFBALANCE", "CODESIZE")
        )
        if what == "SLOAD":
            return self._keep([rng.choice(SLOTS), "SLOAD"])
        if what in ("GAS", "SELFBALANCE", "CODESIZE"):
            return self._keep([what])
        return self._keep([self._some(), what])

    def _keep(self, items):
        """Writes the value on the stack to a slot of its own or logs it."""
        self._probe += 1
        if self.rng.random() < 0.5:
            return [items, self._probe, "SSTORE"]
        return [items, 0, "MSTORE", self._probe, 32, 0, "LOG1"]

    def _call(self):
        rng = self.rng
        kind = rng.choice(("CALL", "CALL", "CALL", "DELEGATECALL", "CALLCODE", "STATICCALL"))
        value = [rng.choice((0, 0, 1, 3))] if kind in ("CALL", "CALLCODE") else []
        gas = rng.choice((0, 2_300, 30_000, 60_000))
        call = [0, 0, rng.randrange(4), 0, value, self._some(), gas, kind]
        return self._keep(call) if rng.random() < 0.6 else [call, "POP"]

    def _create(self):
        rng = self.rng
        if not self.init_codes:
            return self._look()
        init = rng.choice(self.init_codes)
        copy = [len(init), Data(init), 0, "CODECOPY"] if len(init) < 300 else []
        length = len(init) if copy else 0
        value = rng.choice((0, 0, 0, 1, 2))
        if rng.random() < 0.75:
            create = [copy, rng.choice((0, 0, 1)), length, 0, value, "CREATE2"]
        else:
            create = [copy, length, 0, value, "CREATE"]
        return self._keep(create) if rng.random() < 0.6 else [create, "POP"]

    def _transient(self):
        if not since(self.fork, "Cancun"):
            return self._look()
        slot = self.rng.choice(SLOTS)
        return [[1, slot, "TLOAD", "ADD", "DUP1", slot, "TSTORE"], slot, "SSTORE"]

    def _log(self):
        count = self.rng.randrange(5)
        return [[self._some() for _ in range(count)], self.rng.choice((0, 1, 33)), 0, f"LOG{count}"]
