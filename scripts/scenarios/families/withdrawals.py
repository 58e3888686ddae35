"""Withdrawals (EIP-4895): of nothing, to everybody, in lists of any length, and before the calls for requests."""

from .. import systems
from ..asm import code
from ..chain import Account, Chain
from ..spec import address, key, since
from ..transactions import sign

PAID = address(0x51FC)


def make(rng, fork):
    """See the module."""
    sender = key(1)
    odd = [address(0x3000 + number) for number in range(4)]
    accounts = {
        sender.address: Account(balance=10**20),
        odd[0]: Account(),
        odd[1]: Account(storage={1: 1}),
        odd[2]: Account(balance=1, storage={1: 1, 2: 2}),
        PAID: Account(nonce=1, code=code(["SELFBALANCE", 1, "SSTORE"])),
    }
    targets = [*odd, address(0xAB5E47), PAID, sender.address, address(3)]
    contract = rng.choice((systems.WITHDRAWALS, systems.CONSOLIDATIONS))
    if rng.random() < 0.5:
        # A contract that sends, or returns, the balance that it has when the block calls it.
        balance = rng.choice((["SELFBALANCE"], [odd[2], "BALANCE"], [contract, "BALANCE"]))
        send = [0, 0, 0, 0, "SELFBALANCE", rng.choice((PAID, odd[1], odd[3])), "GAS", "CALL", "POP"]
        answer = [balance, 0, "MSTORE", 32, 0, "RETURN"]
        accounts[contract] = Account(balance=7, nonce=1, code=code(rng.choice((send, [send, answer], answer))))
        targets += [contract] * 4
    chain = Chain(fork, accounts)
    nonce, index = 0, rng.choice((0, 127, 255, 2**32, 2**64 - 1000))
    for _ in range(rng.choice((1, 2, 3))):
        transactions = []
        if rng.random() < 0.6:
            to = rng.choice(targets)
            value = rng.choice((0, 1))
            transactions = [sign(sender, 0, nonce=nonce, gas_price=chain.base_fee(), gas=100_000, to=to, value=value)]
            nonce += 1
        withdrawals = []
        if since(fork, "Shanghai"):
            for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5, 16, 17, 140))):
                amount = rng.choice((0, 0, 0, 1, 1, 10**9, 2**64 - 1))
                withdrawals.append([index, rng.choice((0, 1, 300, 2**64 - 1)), rng.choice(targets), amount])
                index += 1
        chain.block(transactions, withdrawals, spoil=rng, coinbase=rng.choice((address(0xC01B), *odd, contract)))
    return chain
