"""Tries that are deep in one place: accounts and slots whose hashes share up to ten nibbles come and go.

* A slot whose leaf stands ten nibbles deep and whose value is below 128 is inlined in its branch.
* Branches lose all but one child, so that extensions, branches and leaves merge over many levels.
* Withdrawals with small fields are inlined in their trie, and the lists of transactions have any length.
"""

from ..asm import code
from ..chain import Account, Chain
from ..spec import address, key, since
from ..transactions import sign

# Made by `python3 -m scenarios.nibbles`: for each number of shared nibbles, two whose hashes share that many, and
# others that share fewer with them.
SLOTS = {
    7: [[21471, 23527, 190610, 13984, 17], [14892, 25799, 499319, 1331, 36], [29974, 34352, 3841, 6], [16398, 35527, 6872, 3], [12130, 39457, 144520, 223, 9], [6663, 40817, 539468, 495, 17]],
    8: [[40364, 105566, 391578, 3598, 6], [50541, 125299, 2515, 25], [15205, 173781, 686, 40], [114992, 177240, 26527, 5676, 36], [152389, 206212, 971148, 9347, 5], [121908, 230897, 13036, 17]],
    9: [[268005, 645179, 785, 4], [525905, 705297, 651094, 71, 3], [44937, 730814, 341819, 977, 9], [140770, 733203, 520608, 7375, 3], [427963, 793112, 5558, 6], [100956, 1022204, 284530, 7557, 40]],
    10: [[247476, 515151, 850632, 85, 36]],
}  # fmt: skip
ADDRESSES = {
    7: [[26226, 40496, 19947, 1455, 1], [6822, 51546, 335930, 3446, 5], [10203, 58164, 370632, 1408, 7], [45051, 58476, 394524, 5352, 16], [5584, 59740, 4078, 17], [40141, 59778, 641087, 3228, 7]],
    8: [[59926, 66960, 4257, 35], [140897, 165729, 45069, 1407, 24], [54373, 178188, 75698, 1660, 24], [55686, 187976, 4757, 6], [167009, 195490, 1405, 35], [56303, 223690, 10436, 5]],
    9: [[21607, 149024, 660648, 6006, 2], [138110, 373859, 3896, 18], [147234, 590175, 225626, 18014, 5], [561703, 819731, 911, 13], [734288, 837554, 1402, 1], [4463, 889675, 291842, 2950, 9]],
    10: [[916221, 1035163, 12996, 24]],
}  # fmt: skip

KEEPER = address(0x7E1E)
PAYER = address(0x9A7E)


def _write(pairs):
    """Call data for the keeper: slots and values."""
    return b"".join(slot.to_bytes(32, "big") + value.to_bytes(32, "big") for slot, value in pairs)


def _keeper(count):
    """Writes up to `count` slots of its call data."""
    one = lambda at: [64 * at + 32, "CALLDATALOAD", 64 * at, "CALLDATALOAD", "SSTORE"]
    return code([one(at) for at in range(count)])


def _payer():
    """Passes its value on to the address in the call data, and self-destructs in its favour if it is given nothing."""
    return code([0, 0, 0, 0, "CALLVALUE", 0, "CALLDATALOAD", 50_000, "CALL", 0, "SSTORE"])


def make(rng, fork):
    """See the module."""
    sender = key(6)
    slots, names = [], []
    for _ in range(rng.choice((1, 1, 2))):
        slots += rng.choice(SLOTS[rng.choice(list(SLOTS))])
        names += [address(number) for number in rng.choice(ADDRESSES[rng.choice(list(ADDRESSES))])]
    slots, names = list(dict.fromkeys(slots)), list(dict.fromkeys(names))
    value = lambda: rng.choice((0, 0, 0, 1, 127, 128, 2**64, 2**256 - 1))
    accounts = {
        sender.address: Account(balance=10**20),
        KEEPER: Account(
            nonce=1, code=_keeper(4), storage={slot: 1 + value() // 2 for slot in slots if rng.random() < 0.6}
        ),
        PAYER: Account(nonce=1, code=_payer()),
    }
    for where in names:
        if rng.random() < 0.6:
            accounts[where] = rng.choice(
                (
                    Account(),
                    Account(balance=1),
                    # An account with the same deep storage, which is removed as a whole.
                    Account(storage={slot: 1 for slot in slots}),
                    Account(balance=1, nonce=1, code=code(["CALLER", "SELFDESTRUCT"]), storage={slots[0]: 1}),
                )
            )
    chain = Chain(fork, accounts)
    nonce = 0
    for _ in range(rng.choice((1, 2, 3, 4))):
        transactions = []
        for _ in range(rng.choice((1, 2, 2, 3))):
            fields = dict(nonce=nonce + len(transactions), gas_price=chain.base_fee(), gas=200_000)
            kind = rng.randrange(4)
            if kind < 2:
                changes = [(slot, value()) for slot in rng.sample(slots, min(len(slots), rng.choice((1, 1, 2, 3))))]
                while len(changes) < 4:
                    changes.append(changes[-1])
                fields |= dict(to=KEEPER, data=_write(changes))
            elif kind == 2:
                fields |= dict(to=PAYER, data=bytes(12) + rng.choice(names), value=rng.choice((0, 1)))
            else:
                fields |= dict(to=rng.choice(names), value=rng.choice((0, 1)))
            transactions.append(sign(sender, 0, **fields))
        if rng.random() < 0.04:
            # Tries whose keys have one byte, two bytes, and both.
            fields = dict(gas_price=chain.base_fee(), gas=80_000, to=names[0])
            count = rng.choice((16, 17, 127, 128, 129, 130))
            transactions = [sign(sender, 0, nonce=nonce + index, **fields) for index in range(count)]
        withdrawals = []
        if since(fork, "Shanghai"):
            count = rng.choice((0, 1, 2, 2, 3, 16, 17))
            withdrawals = [[rng.choice((0, 5)), 0, rng.choice(names), rng.choice((0, 0, 1))] for _ in range(count)]
        chain.block(transactions, withdrawals, spoil=rng, coinbase=rng.choice((address(0xC01B), *names)))
        nonce += len(transactions)
    return chain
