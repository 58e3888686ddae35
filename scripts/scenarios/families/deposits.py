"""Logs of the deposit contract (EIP-6110): of the one layout, of others, and with topics of every number."""

from ..asm import code
from ..chain import Account, Chain
from ..spec import address, key, since
from ..systems import DEPOSITS
from ..transactions import sign

EVENT = bytes.fromhex("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5")
LENGTHS = (48, 32, 8, 96, 8)
FORWARDER = address(0xF0)


def layout(rng, parts=None):
    """The data of a `DepositEvent` as Solidity writes it."""
    parts = parts or [rng.randbytes(length) for length in LENGTHS]
    heads, tail = [], b""
    for part in parts:
        heads.append((160 + len(tail)).to_bytes(32, "big"))
        tail += len(part).to_bytes(32, "big") + part + bytes(-len(part) % 32)
    return b"".join(heads) + tail


def _data(rng):
    """A log's data: mostly a deposit, otherwise something close to one."""
    data = bytearray(layout(rng))
    kind = rng.randrange(14)
    if kind == 0:
        return bytes(data[: rng.choice((0, 31, 575))])
    if kind == 1:
        return bytes(data) + bytes(rng.choice((1, 32)))
    if kind == 2:
        # A word of the layout: an offset or a length.
        at = 32 * rng.choice((0, 1, 2, 3, 4, 5, 8, 10, 12, 16)) + rng.choice((0, 15, 31))
        data[at] ^= rng.choice((1, 0x80))
    elif kind == 3:
        # Padding, which no rule reads.
        data[rng.choice((32 * 7 + 20, 32 * 11 + 9, 32 * 17 + 31))] = rng.randrange(1, 256)
    elif kind == 4:
        # The parts in another order, which an ABI decoder accepts.
        parts = [rng.randbytes(length) for length in LENGTHS]
        swapped = layout(rng, [parts[1], parts[0], *parts[2:]])
        return swapped[32:64] + swapped[:32] + swapped[64:]
    elif kind == 5:
        parts = [rng.randbytes(length) for length in LENGTHS]
        which = rng.randrange(5)
        parts[which] = rng.randbytes(rng.choice((LENGTHS[which] - 1, LENGTHS[which] + 1, 0)))
        return layout(rng, parts)
    return bytes(data)


def make(rng, fork):
    """See the module."""
    sender = key(1)
    count = rng.choice((1, 1, 1, 0, 2, 3, 4))
    first = rng.choice((EVENT, EVENT, EVENT, EVENT, bytes(32), EVENT[:-1] + b"\0"))
    topics = [first, *(rng.choice((EVENT, b"\x2a")) for _ in range(3))][:count]
    log = ["CALLDATASIZE", 0, 0, "CALLDATACOPY", list(reversed(topics)), "CALLDATASIZE", 0, f"LOG{count}"]
    twice = [list(reversed(topics)), "CALLDATASIZE", 0, f"LOG{count}"] if rng.random() < 0.2 else []
    end = rng.choice(([], [], [], [], [0, 0, "REVERT"]))
    forward = ["CALLDATASIZE", 0, 0, "CALLDATACOPY", 0, 0, "CALLDATASIZE", 0]
    forward += [0, DEPOSITS, "GAS", "CALL"] if rng.random() < 0.7 else [DEPOSITS, "GAS", "DELEGATECALL"]
    chain = Chain(
        fork,
        {
            sender.address: Account(balance=10**20),
            DEPOSITS: Account(nonce=1, code=code(log, twice, end)),
            FORWARDER: Account(nonce=1, code=code(forward)),
        },
    )
    nonce = 0
    for _ in range(rng.choice((1, 2, 3))):
        price = chain.base_fee() + 1
        transactions = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            to = rng.choice((DEPOSITS, DEPOSITS, FORWARDER))
            gas = rng.choice((120_000, 120_000, 120_000, 40_000))
            transactions.append(
                sign(sender, 0, nonce=nonce + len(transactions), gas_price=price, gas=gas, to=to, data=_data(rng))
            )
        reasons = ["BlockException.INVALID_DEPOSIT_EVENT_LAYOUT"] if since(fork, "Prague") else []
        if chain.block(transactions, reasons=reasons):
            nonce += len(transactions)
    return chain
