"""Delegations (EIP-7702): authorizations valid and broken, of accounts of every kind, and what follows from them.

Before Prague the transactions are refused.
"""

from ..asm import code
from ..chain import Account, Chain
from ..spec import SECP256K1N, address, aside, key, since
from ..transactions import authorize, sign

COUNTER, LOOKER, KILLER, MAKER = (address(0x7700 + number) for number in range(4))
MARK = b"\xef\x01\x00"
# What may be wrong with a sender that is also an authority.
SENDER = [
    "TransactionException." + name for name in ("SENDER_NOT_EOA", "NONCE_MISMATCH_TOO_LOW", "NONCE_MISMATCH_TOO_HIGH")
]


def _breakage(rng):
    """A change to an authorization's signature `[parity, r, s]`, mostly none."""
    kind = rng.randrange(16)

    def change(signature):
        if kind == 0:
            signature[0] ^= 1
            signature[2] = SECP256K1N - signature[2]
        elif kind == 1:
            signature[0] = rng.choice((2, 27, 255))
        elif kind == 2:
            signature[rng.choice((1, 2))] = rng.choice((0, SECP256K1N, 2**256 - 1))
        elif kind == 3:
            signature[1] = (signature[1] + 1) % SECP256K1N
        elif kind == 4:
            signature[0] ^= 1

    return change


def make(rng, fork):
    """See the module."""
    sender = key(1)
    authorities = [key(10), key(11), key(12)]
    names = [authority.address for authority in authorities]
    targets = [COUNTER, LOOKER, KILLER, MAKER, bytes(20), bytes(20), *names, address(4), address(0xDEAD), sender.address]
    look = [
        [[where, "EXTCODEHASH", 0x10 + index, "SSTORE", where, "EXTCODESIZE", 0x14 + index, "SSTORE"]]
        for index, where in enumerate(names[:2])
    ]
    look += [0, 0, 0, 0, rng.choice((0, 1)), rng.choice(names), 50_000, rng.choice(("CALL", "CALLCODE")), 2, "SSTORE"]
    look += [0, 0, 0, 0, rng.choice(names), 50_000, rng.choice(("DELEGATECALL", "STATICCALL")), 3, "SSTORE"]
    look += ["GAS", 4, "SSTORE", 32, 0, 0, rng.choice(names), "EXTCODECOPY", 0, "MLOAD", 5, "SSTORE"]
    heir = rng.choice((sender.address, names[0], address(0xDEAD)))
    accounts = {
        sender.address: Account(balance=10**20),
        COUNTER: Account(nonce=1, code=code([1, 0, "SLOAD", "ADD", 0, "SSTORE", "CALLVALUE", 1, "SSTORE"])),
        LOOKER: Account(nonce=1, code=code(look)),
        KILLER: Account(nonce=1, code=code([3, 0, "SSTORE", heir, "SELFDESTRUCT"])),
        MAKER: Account(nonce=1, code=code([0, 0, 0, "CREATE", 6, "SSTORE", "ORIGIN", "EXTCODEHASH", 7, "SSTORE"])),
    }
    for authority in names:
        roll = rng.random()
        if roll < 0.15:
            # Clearing the delegation of an account that has only storage removes the storage.
            accounts[authority] = Account(storage={0: 1, 1: 2})
        elif roll < 0.75:
            accounts[authority] = Account(
                balance=rng.choice((0, 0, 5, 10**18)),
                nonce=rng.choice((0, 0, 1, 2**64 - 2, 2**64 - 1)),
                code=rng.choice((b"", b"", b"\x00", MARK + COUNTER, MARK + rng.choice(targets), MARK + b"\0" * 21)),
                storage=rng.choice(({}, {}, {0: 1}, {1: 1, 2: 2})),
            )
    chain = Chain(fork, accounts)
    payers = [
        sender,
        *(authority for authority in authorities if accounts.get(authority.address, Account()).balance > 10**17),
    ]
    for number in range(rng.choice((1, 2, 3))):
        base = chain.base_fee()
        used, transactions, reasons = {}, [], []
        nonce_of = lambda where: int(chain.account(where).nonce) + used.get(where, 0)
        for _ in range(rng.choice((1, 1, 2))):
            payer = rng.choice(payers) if rng.random() < 0.3 else sender
            common = dict(nonce=nonce_of(payer.address), gas=500_000, value=rng.choice((0, 0, 1)))
            used[payer.address] = used.get(payer.address, 0) + 1
            to = rng.choice([*names, *names, COUNTER, LOOKER, MAKER])
            if rng.random() < 0.25:
                transactions.append(sign(payer, 0, gas_price=base + 1, to=to, **common))
                continue
            bare = [one for one in authorities if one.address in accounts and nonce_of(one.address) == 0]
            entries = []
            for _ in range(rng.choice((1, 1, 2, 3))):
                authority = rng.choice([*authorities, *authorities, payer])
                # A skipped entry leaves the nonce unchanged, so later guesses may miss: that is a case
                # too.
                nonce = min(nonce_of(authority.address) + rng.choice((0, 0, 0, 0, 1)), 2**64 - 1)
                used[authority.address] = used.get(authority.address, 0) + 1
                entries.append(
                    authorize(authority, rng.choice(targets), nonce, rng.choice((0, 1, 1, 2, 2**200)), _breakage(rng))
                )
            if bare and (dice := aside(rng)).random() < 0.2:
                # An account without nonce and balance is deleted when its delegation is cleared, and the
                # code that it delegates to next finds no storage.
                again = dice.choice(bare)
                entries = [
                    authorize(again, target, nonce, 1, lambda signature: None)
                    for nonce, target in enumerate(
                        dice.choice(([bytes(20), COUNTER], [COUNTER, bytes(20)], [bytes(20), KILLER, bytes(20), COUNTER]))
                    )
                ]
                to = dice.choice((again.address, again.address, to))
            if rng.random() < 0.04:
                entries = []
            transactions.append(
                sign(
                    payer, 4, max_fee=base + 2, priority_fee=rng.choice((0, 1)), to=to, authorizations=entries, **common
                )
            )
            reasons.append("TransactionException.TYPE_4_TX_PRE_FORK")
        withdrawals = []
        if since(fork, "Shanghai") and rng.random() < 0.3:
            withdrawals = [[number, 0, rng.choice(names), rng.choice((0, 1))]]
        chain.block(transactions, withdrawals, SENDER if since(fork, "Prague") else [*SENDER, *reasons], spoil=rng)
    return chain
