"""Headers whose fields are at the ends of their ranges, and blocks with one wrong field."""

from ethereum_rlp import rlp as spec_rlp

from .. import rlp
from ..asm import code
from ..chain import HEADER, Account, Chain
from ..spec import address, key, since
from ..transactions import sign

READER = address(0xEAD)
BLOCK = "BlockException."
MOST_GAS = 2**63 - 1


def _integer(field, *names, above=True, below=True):
    def change(rng, header, parent):
        value = header[field]
        values = [value + 1, value * 2 + 1] if above else []
        values += [value - 1, 0] if below and value else []
        header[field] = min(rng.choice(values), 2**64 - 1)

    return field, change, names


def _bytes(field, *names):
    def change(rng, header, parent):
        value = bytearray(header[field])
        value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
        header[field] = bytes(value)

    return field, change, names


def _set(field, values, *names):
    def change(rng, header, parent):
        header[field] = rng.choice(values)

    return field, change, names


def _timestamp(rng, header, parent):
    header["timestamp"] = rng.choice((int(parent.timestamp), max(0, int(parent.timestamp) - 1), 0))


def _gas_limit(rng, header, parent):
    limit = int(parent.gas_limit)
    step = limit // 1024
    header["gas_limit"] = rng.choice((limit + step, limit - step, limit + 2 * step, 4_999, 0))


def _missing(rng, header, parent):
    del header[list(header)[-1]]


def _extra(rng, header, parent):
    header["one field more"] = bytes(32)


# Field, how it is changed, and the names that execution-spec-tests may give the refusal. If the field follows from
# execution, its own name is enough; if it changes the execution, the names of what it changes count too.
CHANGES = (
    _bytes("parent_hash", "UNKNOWN_PARENT"),
    _bytes("ommers_hash", "INVALID_UNCLES_HASH"),
    _bytes("state_root", "INVALID_STATE_ROOT"),
    _bytes("transactions_root", "INVALID_TRANSACTIONS_ROOT"),
    _bytes("receipt_root", "INVALID_RECEIPTS_ROOT"),
    _bytes("bloom", "INVALID_LOG_BLOOM"),
    _set("difficulty", (1, 2**64, 2**200), "IMPORT_IMPOSSIBLE_DIFFICULTY_OVER_PARIS"),
    _integer("number", "INVALID_BLOCK_NUMBER"),
    ("gas_limit", _gas_limit, ("INVALID_GASLIMIT", "GASLIMIT_TOO_BIG")),
    _integer("gas_used", "INVALID_GAS_USED", "INVALID_GAS_USED_ABOVE_LIMIT"),
    ("timestamp", _timestamp, ("INVALID_BLOCK_TIMESTAMP_OLDER_THAN_PARENT",)),
    _set("extra_data", (bytes(33), bytes(100)), "EXTRA_DATA_TOO_BIG"),
    _set("nonce", (bytes(7) + b"\1", b"\x80" + bytes(7)), "IMPORT_IMPOSSIBLE_DIFFICULTY_OVER_PARIS"),
    _set("nonce", (bytes(7), bytes(9), b""), "RLP_STRUCTURES_ENCODING"),
    _integer("base_fee_per_gas", "INVALID_BASEFEE_PER_GAS"),
    _bytes("withdrawals_root", "INVALID_WITHDRAWALS_ROOT"),
    _integer("blob_gas_used", "INCORRECT_BLOB_GAS_USED"),
    _integer("excess_blob_gas", "INCORRECT_EXCESS_BLOB_GAS"),
    _bytes("parent_beacon_block_root", "INVALID_STATE_ROOT"),
    _bytes("requests_hash", "INVALID_REQUESTS"),
    ("ommers_hash", _missing, ("INCORRECT_BLOCK_FORMAT", "RLP_STRUCTURES_ENCODING", "INVALID_BASEFEE_PER_GAS")),
    ("ommers_hash", _extra, ("INCORRECT_BLOCK_FORMAT", "RLP_STRUCTURES_ENCODING")),
    # These fields are free, so the block stays valid unless its execution read them.
    _bytes("coinbase", "INVALID_STATE_ROOT", "INVALID_GAS_USED"),
    _bytes("prev_randao", "INVALID_STATE_ROOT", "INVALID_GAS_USED"),
    _set("extra_data", (b"", bytes(32)), "INVALID_STATE_ROOT"),
)  # fmt: skip


def make(rng, fork):
    """See the module."""
    sender = key(9)
    read = ["NUMBER", "TIMESTAMP", "GASLIMIT", "PREVRANDAO", "COINBASE", "BASEFEE", "CHAINID"]
    read = [[name, slot, "SSTORE"] for slot, name in enumerate(read)]
    number = rng.choice((0, 0, 0, 1, 254, 255, 256, 257, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 20))
    # A block before a genesis that is not block 0 has a hash that nobody knows.
    depths = (0, 1, 257, 300) if number else (0, 1, 2, 3, 255, 256, 257)
    back = [[rng.choice(depths), "NUMBER", "SUB", "BLOCKHASH", 0x20 + slot, "SSTORE"] for slot in range(3)]
    back.append(
        [
            rng.choice((2**64 - 1, 2**64, 2**256 - 1) if number else (0, 1, 2**64, 2**256 - 1)),
            "BLOCKHASH",
            0x30,
            "SSTORE",
        ]
    )
    chain = Chain(
        fork,
        {sender.address: Account(balance=2**100), READER: Account(nonce=1, code=code(read, back))},
        gas_limit=rng.choice(
            (5_000_000, 30_000_000, 30_000_000, 2**31 - 1, 2**32, 2**53, 2**62, MOST_GAS - 1, MOST_GAS)
        ),
        number=number,
        timestamp=rng.choice((0, 1, 2**31 - 1, 2**32, 2**53, 2**63, 2**64 - 1000)),
        base_fee_per_gas=rng.choice((0, 1, 7, 8, 10**9, 2**50)),
        extra_data=rng.choice((b"", bytes(32))),
        prev_randao=rng.randbytes(32),
        coinbase=rng.randbytes(20),
    )
    for _ in range(rng.choice((2, 3, 4))):
        parent = chain.parent
        limit, now = int(parent.gas_limit), int(parent.timestamp)
        step = limit // 1024 - 1
        header = dict(
            gas_limit=min(rng.choice((limit, limit + step, limit - step, limit + 1)), MOST_GAS),
            timestamp=now + rng.choice((1, 1, 12, 100)),
            extra_data=rng.choice((b"", b"\0", bytes(31), bytes(32))),
            coinbase=rng.choice((address(0), address(0xC01B), READER)),
        )  # fmt: skip
        base, nonce = chain.base_fee(), int(chain.account(sender.address).nonce)
        transactions = [
            sign(sender, 0, nonce=nonce + index, gas_price=base + 1, gas=400_000, to=READER)
            for index in range(rng.choice((0, 0, 1, 2)))
        ]
        if rng.random() < 0.55:
            chain.block(transactions, **header)
            continue
        field, change, names = rng.choice([entry for entry in CHANGES if since(fork, HEADER[entry[0]])])
        reasons = {BLOCK + name for name in names}
        chain.block(transactions, reasons=reasons, change=lambda header: change(rng, header, parent), **header)
    if rng.random() < 0.1:
        _with_ommer(chain)
    return chain


def _with_ommer(chain):
    """A block with an ommer, which its header does not name."""
    ommer = list(chain.outline({}).values())

    def size(raw):
        parts = spec_rlp.decode(raw)
        parts[2] = [ommer]
        return rlp.encode(parts)

    chain.block(size=size, reasons={BLOCK + "TOO_MANY_UNCLES"})
