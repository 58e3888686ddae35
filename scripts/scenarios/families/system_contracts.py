"""System contracts that are not the usual ones: absent, without code, delegating, failing, answering anything.

EIP-4788 and EIP-2935 are called before the transactions and may fail; EIP-7002 and EIP-7251 are called after the
withdrawals and may not.
"""

from .. import systems
from ..asm import code, deploy
from ..chain import Account, Chain
from ..spec import address, key, since
from ..transactions import sign
from .lifecycles import create_address

SINK, DELEGATE, EMPTY = address(0x51), address(0xDE1E), address(0xE0)
MARK = b"\xef\x01\x00"


def _codes(rng, contract):
    """Codes that a system contract might have instead of its own."""
    observe = rng.choice(
        (
            ["GAS"], ["GASPRICE"], ["CALLER"], ["ORIGIN"], ["CALLVALUE"], ["CALLDATASIZE"], ["SELFBALANCE"],
            ["NUMBER"], ["COINBASE", "BALANCE"], [contract, "BALANCE", "POP", "GAS"], [2, "BALANCE", "POP", "GAS"],
            ["COINBASE", "EXTCODESIZE", "POP", "GAS"], [0, "SLOAD", "POP", "GAS"], ["CALLER", "BALANCE", "POP", "GAS"],
            [systems.WITHDRAWALS, "EXTCODEHASH"],
        )
    )  # fmt: skip
    length = rng.choice((0, 1, 31, 32, 76, 116, 1000))
    deposit = [
        32,
        0,
        bytes.fromhex("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5"),
        "SWAP2",
        "SWAP1",
        "LOG1",
    ]
    made = deploy(code([SINK, "SELFDESTRUCT"]), [1, 1, "SSTORE"])
    create = [made.ljust(64, b"\0")[:32], 0, "MSTORE", made.ljust(64, b"\0")[32:64], 32, "MSTORE"]
    return [
        code([observe, 0, "MSTORE", 32, 0, "RETURN"]),
        code([observe, 1, "SSTORE"]),
        code([1, 1, "SLOAD", "ADD", 1, "SSTORE", length, 0, "RETURN"]),
        code([length, 0, "RETURN"]),
        code([0, 0, "REVERT"]),
        code([7, 1, "SSTORE", 32, 0, "REVERT"]),
        code(["INVALID"]),
        code([SINK, "SELFDESTRUCT"]),
        code([0, 0, 0, 0, "SELFBALANCE", rng.choice((SINK, EMPTY, address(0xAB5E47))), "GAS", "CALL", "POP"]),
        code(
            [create, len(made), 0, 0, "CREATE", "DUP1", 2, "SSTORE", 0, 0, 0, 0, 0, "DUP6", "GAS", "CALL", 3, "SSTORE"]
        ),
        code([deposit]),
        # Uses up its gas at once.
        code([0, 2**40, "MSTORE"]),
        # Uses about 30,000,000 gas: a hash of a few megabytes, just inside or just outside.
        code([rng.choice((3_000_000, 3_500_000, 3_800_000, 4_200_000)), 0, "KECCAK256", 1, "SSTORE"]),
        MARK + DELEGATE,
        MARK + EMPTY,
        MARK + address(4),
        MARK + contract,
        MARK + systems.WITHDRAWALS,
        MARK + DELEGATE[:19],
    ]


def make(rng, fork):
    """See the module."""
    sender = key(4)
    contracts = list(systems.CODE)
    accounts = {
        sender.address: Account(balance=10**20),
        DELEGATE: Account(
            nonce=1, code=rng.choice((code([9, 1, "SSTORE", 32, 0, "RETURN"]), MARK + EMPTY, b"\xfe", b"\x00"))
        ),
        SINK: Account(nonce=1, code=code(["SELFBALANCE", 1, "SSTORE"])),
    }
    absent, late = [], None
    for contract in rng.sample(contracts, rng.choice((1, 1, 1, 2))):
        kind = rng.randrange(9)
        if kind == 0:
            absent.append(contract)
        elif kind <= 2:
            accounts[contract] = Account(
                balance=rng.choice((0, 1)), nonce=rng.choice((0, 1)), storage=rng.choice(({}, {1: 1}, {0: 1, 1: 2}))
            )
        else:
            accounts[contract] = Account(
                balance=rng.choice((0, 3)),
                nonce=rng.choice((0, 1)),
                code=rng.choice(_codes(rng, contract)),
                storage=rng.choice(({}, {}, {1: 1})),
            )
    if rng.random() < 0.08:
        # Nothing has code until a transaction of the block creates it. None of the four contracts can be
        # created that way, so the delegate is.
        late = create_address(sender.address, 0)
        accounts[rng.choice(contracts)] = Account(nonce=1, code=MARK + late)
    for contract in contracts:
        # Some chains have none of them, in every fork.
        if contract not in accounts and contract not in absent and since(fork, systems.FIRST_FORK[contract]):
            accounts[contract] = Account(nonce=1, code=systems.CODE[contract])
    chain = Chain(fork, accounts, systems_present=False)
    reasons = ["BlockException.SYSTEM_CONTRACT_EMPTY", "BlockException.SYSTEM_CONTRACT_CALL_FAILED"]
    nonce = 0
    for number in range(rng.choice((1, 2, 2, 3))):
        price = chain.base_fee() + 1
        transactions = []
        if late and not number:
            transactions.append(
                sign(sender, 0, nonce=nonce, gas_price=price, gas=200_000, data=deploy(b"\x5f\x5f\xf3"))
            )
        for _ in range(rng.choice((0, 1, 1, 2))):
            to = rng.choice((systems.WITHDRAWALS, systems.CONSOLIDATIONS, *contracts, SINK, EMPTY))
            data = {systems.WITHDRAWALS: rng.randbytes(56), systems.CONSOLIDATIONS: rng.randbytes(96)}.get(to, b"")
            data = rng.choice((data, data, data, bytes(32), b""))
            transactions.append(
                sign(
                    sender,
                    0,
                    nonce=nonce + len(transactions),
                    gas_price=price,
                    gas=300_000,
                    to=to,
                    data=data,
                    value=rng.choice((0, 1, 1, 5)),
                )
            )
        withdrawals = []
        if since(fork, "Shanghai") and rng.random() < 0.4:
            withdrawals = [[number, 0, rng.choice([*contracts, SINK, EMPTY]), rng.choice((0, 0, 1))]]
        coinbase = rng.choice((address(0xC01B), address(0xC01B), rng.choice(contracts)))
        if chain.block(transactions, withdrawals, reasons, spoil=rng, coinbase=coinbase):
            nonce += len(transactions)
    return chain
