"""EVM code from names and numbers."""

_NAMES = """
00 STOP ADD MUL SUB DIV SDIV MOD SMOD ADDMOD MULMOD EXP SIGNEXTEND
10 LT GT SLT SGT EQ ISZERO AND OR XOR NOT BYTE SHL SHR SAR CLZ
20 KECCAK256
30 ADDRESS BALANCE ORIGIN CALLER CALLVALUE CALLDATALOAD CALLDATASIZE CALLDATACOPY CODESIZE CODECOPY GASPRICE EXTCODESIZE EXTCODECOPY RETURNDATASIZE RETURNDATACOPY EXTCODEHASH
40 BLOCKHASH COINBASE TIMESTAMP NUMBER PREVRANDAO GASLIMIT CHAINID SELFBALANCE BASEFEE BLOBHASH BLOBBASEFEE
50 POP MLOAD MSTORE MSTORE8 SLOAD SSTORE JUMP JUMPI PC MSIZE GAS JUMPDEST TLOAD TSTORE MCOPY PUSH0
80 DUP1 DUP2 DUP3 DUP4 DUP5 DUP6
90 SWAP1 SWAP2 SWAP3 SWAP4
a0 LOG0 LOG1 LOG2 LOG3 LOG4
f0 CREATE CALL CALLCODE RETURN DELEGATECALL CREATE2
fa STATICCALL
fd REVERT INVALID SELFDESTRUCT
"""
OPS = {}
for _line in _NAMES.split("\n")[1:-1]:
    _first, *_ops = _line.split()
    OPS.update({name: int(_first, 16) + at for at, name in enumerate(_ops)})


def push(value):
    """The shortest push that every fork has."""
    if isinstance(value, (bytes, bytearray)):
        return bytes([0x5F + len(value)]) + bytes(value)
    length = max(1, (value.bit_length() + 7) // 8)
    return bytes([0x5F + length]) + value.to_bytes(length, "big")


class Label:
    """A place in the code. As an item of `code` it is a JUMPDEST, inside a tuple it pushes its position."""


class Data:
    """Bytes behind the code. Pushes their position."""

    def __init__(self, content):
        self.content = bytes(content)


def code(*items):
    """Code of names, numbers and byte strings (pushed), lists (spliced in), labels and data."""
    parts, places, data = [], {}, []
    size = 0

    def add(item):
        nonlocal size
        if isinstance(item, list):
            for part in item:
                add(part)
            return
        if isinstance(item, Label):
            places[item] = size
            part = bytes([OPS["JUMPDEST"]])
        elif isinstance(item, Data):
            data.append(item)
            part = item
        elif isinstance(item, tuple):
            part = item[0]
        elif isinstance(item, str):
            part = bytes([OPS[item]])
        else:
            part = push(item)
        parts.append(part)
        size += len(part) if isinstance(part, bytes) else 3

    for item in items:
        add(item)
    end = size + 1 if data else size
    for item in data:
        places[item] = end
        end += len(item.content)
    out = [part if isinstance(part, bytes) else b"\x61" + places[part].to_bytes(2, "big") for part in parts]
    if data:
        out += [bytes([OPS["STOP"]]), *(item.content for item in data)]
    return b"".join(out)


def deploy(runtime, *before):
    """Init code that runs `before` and then returns `runtime`."""
    body = Data(runtime)
    return code(list(before), len(runtime), body, 0, "CODECOPY", len(runtime), 0, "RETURN")
