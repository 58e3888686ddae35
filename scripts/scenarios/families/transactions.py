"""Transactions of all types, as a wallet would sign them or with one or two things wrong."""

from .. import rlp
from ..asm import code
from ..chain import Account, Chain
from ..spec import SECP256K1N, address, key, since
from ..transactions import authorize, sign

COUNTER, FAILING = address(0xE1), address(0xE2)
TX = "TransactionException."
SIGNATURE = ("INVALID_SIGNATURE_VRS",)

# The specification does not check the chain id of a typed transaction; EIP-2930, EIP-1559, EIP-4844 and EIP-7702
# say that it must be the chain's, so such transactions are made only where they are refused for another reason.


def _fields(rng, chain, kind, sender, nonce, price, tip):
    fields = dict(
        nonce=nonce,
        gas=rng.choice((100_000, 100_000, 250_000, 1_000_000)),
        to=rng.choice((address(0xABC), COUNTER, COUNTER, FAILING, b"", sender.address, address(1))),
        value=rng.choice((0, 0, 1)),
        data=rng.choice((b"", b"", b"\0", rng.randbytes(5), bytes(100), rng.randbytes(700))),
    )
    if kind < 2:
        fields["gas_price"] = price
    else:
        fields |= dict(max_fee=price, priority_fee=tip)
    if kind >= 1:
        slot = (1).to_bytes(32, "big")
        fields["access_list"] = rng.choice(
            ([], [[COUNTER, [slot]]], [[COUNTER, [bytes(32), slot, slot]], [COUNTER, []]])
        )
    if kind == 3:
        fields["blobs"] = [b"\x01" + rng.randbytes(31) for _ in range(rng.choice((1, 1, 2, 6)))]
    if kind == 4:
        other = key(3)
        fields["authorizations"] = [authorize(other, COUNTER, int(chain.account(other.address).nonce))]
    if kind >= 3 and not fields["to"]:
        fields["to"] = COUNTER
    return fields


# Each takes `(rng, fields, kind, fork, base)`, changes the fields, and returns the possible reasons for a refusal;
# `None` means that it does not apply. Some are not a fault in some forks.


def _nonce(rng, fields, kind, fork, base):
    fields["nonce"] = rng.choice((fields["nonce"] + 1, max(0, fields["nonce"] - 1), 2**64 - 2, 2**64 - 1, 2**64, 2**80))
    return "NONCE_MISMATCH_TOO_LOW", "NONCE_MISMATCH_TOO_HIGH", "NONCE_IS_MAX", "NONCE_OVERFLOW"


def _gas(rng, fields, kind, fork, base):
    fields["gas"] = rng.choice((0, 20_999, 21_000, 22_000, 53_000, 30_000_000, 30_000_001, 2**63, 2**64 - 1, 2**64))
    return (
        "INTRINSIC_GAS_TOO_LOW", "INTRINSIC_GAS_BELOW_FLOOR_GAS_COST", "GAS_ALLOWANCE_EXCEEDED",
        "GAS_LIMIT_EXCEEDS_MAXIMUM", "GASLIMIT_OVERFLOW", "INSUFFICIENT_ACCOUNT_FUNDS",
        "GASLIMIT_PRICE_PRODUCT_OVERFLOW",
    )  # fmt: skip


def _osaka_cap(rng, fields, kind, fork, base):
    fields["gas"] = rng.choice((16_777_216, 16_777_217))
    return ("GAS_LIMIT_EXCEEDS_MAXIMUM",)


def _low_price(rng, fields, kind, fork, base):
    field = "gas_price" if kind < 2 else "max_fee"
    fields[field] = rng.choice((0, base - 1, base))
    return "INSUFFICIENT_MAX_FEE_PER_GAS", "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS"


def _high_tip(rng, fields, kind, fork, base):
    if kind < 2:
        return None
    fields["priority_fee"] = fields["max_fee"] + rng.choice((0, 1, 2**100))
    return ("PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS", "INSUFFICIENT_ACCOUNT_FUNDS")


def _value(rng, fields, kind, fork, base):
    fields["value"] = rng.choice((10**19, 10**20, 10**20 + 1, 2**255, 2**256 - 1, 2**256))
    return "INSUFFICIENT_ACCOUNT_FUNDS", "VALUE_OVERFLOW", "GASLIMIT_PRICE_PRODUCT_OVERFLOW"


def _init_code(rng, fields, kind, fork, base):
    if kind >= 3:
        return None
    fields |= dict(to=b"", data=bytes(rng.choice((49_152, 49_153))), gas=2_000_000)
    return ("INITCODE_SIZE_EXCEEDED",)


def _to(rng, fields, kind, fork, base):
    if kind >= 3:
        fields["to"] = b""
    else:
        fields["to"] = rng.choice((bytes(19), bytes(21), b"\0"))
    return (
        "TYPE_3_TX_CONTRACT_CREATION", "TYPE_4_TX_CONTRACT_CREATION", "ADDRESS_TOO_SHORT", "ADDRESS_TOO_LONG",
    )  # fmt: skip


def _blobs(rng, fields, kind, fork, base):
    if kind != 3:
        return None
    change = rng.randrange(3)
    if change == 0:
        fields["blobs"] = [b"\x01" + bytes(31)] * rng.choice((0, 6, 7, 9, 10, 200))
    elif change == 1:
        fields["blobs"] = [bytes([rng.choice((0, 2, 255))]) + bytes(31)]
    else:
        fields["max_blob_fee"] = rng.choice((0, 2**255, 2**256 - 1, 2**256))
    return (
        "TYPE_3_TX_ZERO_BLOBS", "TYPE_3_TX_BLOB_COUNT_EXCEEDED", "TYPE_3_TX_MAX_BLOB_GAS_ALLOWANCE_EXCEEDED",
        "TYPE_3_TX_INVALID_BLOB_VERSIONED_HASH", "INSUFFICIENT_MAX_FEE_PER_BLOB_GAS", "INSUFFICIENT_ACCOUNT_FUNDS",
        "GASLIMIT_PRICE_PRODUCT_OVERFLOW", "RLP_INVALID_DATA",
    )  # fmt: skip


def _access_list(rng, fields, kind, fork, base):
    if kind == 0:
        return None
    fields["access_list"] = rng.choice(
        ([[bytes(19), []]], [[bytes(20), [bytes(31)]]], [[bytes(20)]], b"", [b"\1"], [[]])
    )
    return ("RLP_INVALID_DATA",)


def _authorizations(rng, fields, kind, fork, base):
    if kind != 4:
        return None
    entry = list(fields["authorizations"][0])
    change = rng.randrange(4)
    if change == 0:
        fields["authorizations"] = []
    elif change == 1:
        entry[rng.choice((0, 3, 4, 5))] = rng.choice((2**8, 2**256))
        fields["authorizations"] = [entry]
    elif change == 2:
        entry[2] = rng.choice((2**64 - 1, 2**64))
        fields["authorizations"] = [entry]
    else:
        fields["authorizations"] = [entry[:-1]]
    return "TYPE_4_EMPTY_AUTHORIZATION_LIST", "TYPE_4_INVALID_AUTHORIZATION_FORMAT"


FAULTS = (
    _nonce, _gas, _gas, _osaka_cap, _low_price, _high_tip, _value, _init_code, _to, _blobs, _blobs, _access_list,
    _authorizations,
)  # fmt: skip


def _break_signature(rng, kind):
    """A change to `[v, r, s]`."""

    def change(signature):
        way = rng.randrange(6)
        if way == 0:
            signature[2] = SECP256K1N - signature[2]
            signature[0] = signature[0] ^ 1 if kind else signature[0] + (1 if signature[0] % 2 else -1)
        elif way == 1:
            signature[rng.choice((1, 2))] = rng.choice((0, SECP256K1N, SECP256K1N // 2 + 1, 2**256 - 1))
        elif way == 2:
            signature[0] = rng.choice((2, 3, 27, 28, 255, 256) if kind else (0, 1, 2, 26, 29, 34, 39, 40, 2**64 + 37))
        elif way == 3:
            signature[rng.choice((1, 2))] = 2**256
        elif way == 4:
            # Another signature, hence another sender, who has no money.
            signature[1] = (signature[1] + 1) % SECP256K1N
        else:
            signature[0] = signature[0] ^ 1 if kind else signature[0] + (1 if signature[0] % 2 else -1)

    return change


def _break_bytes(rng, raw):
    """The same transaction in bytes that are not its encoding."""
    way = rng.randrange(5)
    prefix, body = (raw[:1], raw[1:]) if raw[0] < 0x80 else (b"", raw)
    if way == 0:
        return raw + b"\0" if prefix else raw
    if way == 1:
        return (bytes([rng.choice((0, 5, 6, 0x7F))]) if prefix else b"\x00") + body
    # Changes the list's items and keeps its declared length correct.
    header = 1 if body[0] < 0xF8 else 1 + body[0] - 0xF7
    items = body[header:]
    if way == 2:
        items += rlp.encode(b"")
    elif way == 3:
        # Prefixes the first number with a zero.
        items = b"\x82\0" + (b"\x01" if items[:1] == b"\x80" else items[:1]) + items[1:]
    else:
        items = items[:-33]
    return prefix + rlp.encode_list([items])


def make(rng, fork):
    """See the module."""
    sender = key(7)
    balance = rng.choice((10**20, 10**20, 10**20, 10**15))
    account = Account(balance=balance, nonce=rng.choice((0, 0, 0, 5, 2**64 - 3, 2**64 - 2, 2**64 - 1)))
    if rng.random() < 0.06:
        account.code = rng.choice((b"\x00", b"\xef\x01\x00" + COUNTER))
    chain_id = rng.choice((1, 1, 1, 1337, 2**40, 2**63 - 1))
    chain = Chain(
        fork,
        {
            sender.address: account,
            COUNTER: Account(nonce=1, code=code([1, 0, "SLOAD", "ADD", 0, "SSTORE", 0, 0, "LOG0"])),
            FAILING: Account(nonce=1, code=b"\xfe"),
            key(3).address: Account(balance=1),
        },
        chain_id=chain_id,
        base_fee_per_gas=rng.choice((7, 10, 1_000, 10**9)),
        excess_blob_gas=rng.choice((0, 0, 10**6, 10**7)),
    )
    for _ in range(rng.choice((1, 2, 3))):
        base, nonce = chain.base_fee(), int(chain.account(sender.address).nonce)
        transactions, reasons = [], set()
        for index in range(rng.choice((1, 1, 2, 4))):
            kind = rng.choice((0, 0, 1, 2, 2, 3, 3, 4, 4))
            tip = rng.choice((0, 1, base))
            price = base + rng.choice((0, 1, tip))
            fields = _fields(rng, chain, kind, sender, nonce + index, price, min(tip, price))
            fields["chain_id"] = chain_id
            protected = rng.random() < 0.8
            before = None
            roll = rng.random()
            if roll < 0.35:
                for fault in rng.sample(FAULTS, rng.choice((1, 1, 1, 2))):
                    names = fault(rng, fields, kind, fork, base)
                    reasons |= {TX + name for name in names or ()}
            elif roll < 0.5:
                before = _break_signature(rng, kind)
                reasons |= {
                    TX + name
                    for name in (
                        *SIGNATURE,
                        "INSUFFICIENT_ACCOUNT_FUNDS",
                        "NONCE_MISMATCH_TOO_HIGH",
                        "RLP_INVALID_SIGNATURE_R",
                        "INVALID_CHAINID",
                    )
                }
            elif roll < 0.53 and kind == 0 and protected:
                fields["chain_id"] = rng.choice((0, chain_id + 1, 2**64))
                reasons |= {TX + name for name in (*SIGNATURE, "INVALID_CHAINID")}
            raw = sign(sender, kind, protected, before, **fields)
            if roll > 0.93:
                raw = _break_bytes(rng, raw)
                reasons |= {
                    TX + name
                    for name in (
                        "RLP_INVALID_DATA",
                        "TYPE_NOT_SUPPORTED",
                        "INVALID_SIGNATURE_VRS",
                        *(("NONCE_MISMATCH_TOO_HIGH",)),
                    )
                }
                reasons |= {"BlockException.RLP_STRUCTURES_ENCODING"}
            transactions.append(raw)
            too_new = {3: "Cancun", 4: "Prague"}.get(kind, "Paris")
            if not since(fork, too_new):
                reasons.add(f"{TX}TYPE_{kind}_TX_PRE_FORK")
            reasons |= _unlucky(account, kind)
        chain.block(transactions, [], reasons)
    return chain


def _unlucky(account, kind):
    """What may be wrong by the account's doing."""
    names = set()
    if account.balance < 10**20:
        names.add("INSUFFICIENT_ACCOUNT_FUNDS")
    if account.nonce > 2**63:
        names |= {"NONCE_IS_MAX", "NONCE_OVERFLOW"}
    if account.code:
        names.add("SENDER_NOT_EOA")
    if kind == 3:
        names |= {"TYPE_3_TX_MAX_BLOB_GAS_ALLOWANCE_EXCEEDED", "INSUFFICIENT_MAX_FEE_PER_BLOB_GAS"}
    return {TX + name for name in names}
