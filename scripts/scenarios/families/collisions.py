"""Creation at the address of an existing account (EIP-684, EIP-7610): any mix of nonce, code, storage and balance."""

from ..asm import Data, code, deploy
from ..chain import Account, Chain
from ..spec import address, aside, key, since
from ..transactions import sign
from .lifecycles import create2_address, create_address

CREATOR = address(0xDDDD)
ONLOOKER = address(0xBEEF)
DYING, REVERTING = address(0xD1E0), address(0xD1E1)


def make(rng, fork):
    """See the module."""
    sender, other = key(1), key(2)
    runtime = code([1, 0, "SLOAD", "ADD", 0, "SSTORE"])
    init = rng.choice(
        (
            deploy(runtime),
            deploy(runtime, [7, 1, "SSTORE"]),
            deploy(runtime, [1, "SLOAD", 2, "SSTORE"]),
            b"",
            code([0, 0, "REVERT"]),
            code([ONLOOKER, "SELFDESTRUCT"]),
        )
    )
    way = rng.choice(("transaction", "CREATE", "CREATE2"))
    # A creator with the greatest nonce creates nothing.
    creator_nonce = rng.choice((1, 1, 1, 1, 1, 1, 2**64 - 2, 2**64 - 1))
    # Init code may have 49,152 bytes from Shanghai on.
    length = rng.choice((49_152, 49_153)) if rng.random() < 0.06 else len(init)
    target = {
        "transaction": create_address(sender.address, 0),
        "CREATE": create_address(CREATOR, creator_nonce),
        "CREATE2": create2_address(CREATOR, 5, init.ljust(length, b"\0")),
    }[way]
    there = Account(
        balance=rng.choice((0, 0, 1)),
        nonce=rng.choice((0, 0, 0, 1)),
        code=rng.choice((b"", b"", b"", b"\x00", b"\xef\x01\x00" + ONLOOKER)),
        storage=rng.choice(({}, {1: 1}, {1: 1}, {0: 2, 1: 3, 2: 4})),
    )
    look = lambda slot, items: [items, slot, "SSTORE"]
    create = [len(init), Data(init), 0, "CODECOPY"]
    create += (
        [5, length, 0, rng.choice((0, 1)), "CREATE2"] if way == "CREATE2" else [length, 0, rng.choice((0, 1)), "CREATE"]
    )
    # An empty beneficiary is removed with its storage before anything is created there.
    prelude = []
    dice = aside(rng)
    if dice.random() < 0.25:
        prelude = look(9, [0, 0, 0, 0, dice.choice((0, 0, 1)), dice.choice((DYING, DYING, REVERTING)), 100_000, "CALL"])
        if dice.random() < 0.3:
            prelude += look(10, [0, 0, 0, 0, 1, target, 40_000, "CALL"])
    # What the creator sees: whether the creation worked, what it left, and what it and the look-ups
    # cost.
    creator = code(
        prelude,
        look(1, ["GAS"]),
        look(2, [create]),
        look(3, ["GAS"]),
        look(4, [target, "EXTCODEHASH"]),
        look(5, [target, "BALANCE"]),
        look(6, [0, 0, 0, 0, rng.choice((0, 1)), target, 40_000, "CALL"]),
        look(7, ["GAS"]),
        look(8, ["RETURNDATASIZE"]),
    )
    onlooker = code(
        look(1, [target, "EXTCODEHASH"]),
        look(2, [target, "EXTCODESIZE"]),
        look(3, [0, 0, 0, 0, rng.choice((0, 0, 1)), target, 40_000, "CALL"]),
        look(4, ["GAS"]),
    )
    accounts = {
        sender.address: Account(balance=10**20),
        other.address: Account(balance=10**20),
        CREATOR: Account(balance=5, nonce=creator_nonce, code=creator),
        ONLOOKER: Account(balance=5, nonce=1, code=onlooker),
        DYING: Account(nonce=1, code=code([target, "SELFDESTRUCT"])),
        REVERTING: Account(nonce=1, code=code([0, 0, 0, 0, 0, DYING, 60_000, "CALL", 0, 0, "REVERT"])),
        target: there,
    }
    chain = Chain(fork, accounts)
    coinbase = rng.choice((address(0xC01B), address(0xC01B), target))
    for number in range(rng.choice((1, 2, 3))):
        base = chain.base_fee()
        price = base + rng.choice((0, 1))
        transactions, nonce = [], int(chain.account(other.address).nonce)
        for _ in range(rng.choice((0, 1, 2))):
            to = rng.choice((ONLOOKER, target, CREATOR if way != "transaction" else ONLOOKER))
            transactions.append(
                sign(other, 0, nonce=nonce, gas_price=price, to=to, gas=600_000, value=rng.choice((0, 0, 1)))
            )
            nonce += 1
        create = dict(nonce=int(chain.account(sender.address).nonce), gas_price=price, gas=500_000)
        if way == "transaction":
            create |= dict(data=init, value=rng.choice((0, 1)))
        else:
            create |= dict(to=CREATOR)
        at = rng.randrange(len(transactions) + 1)
        transactions.insert(at, sign(sender, 0, **create))
        withdrawals = []
        if since(fork, "Shanghai") and rng.random() < 0.5:
            withdrawals = [[number, 0, rng.choice((target, ONLOOKER)), rng.choice((0, 0, 1))]]
        chain.block(transactions, withdrawals, spoil=rng, coinbase=coinbase)
    return chain
