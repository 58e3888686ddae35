"""Fees at the ends of their ranges: products beyond 128 bits that a balance can pay, blobs at any price, no tips."""

from ..asm import code
from ..chain import Account, Chain
from ..spec import address, key, since
from ..transactions import sign

TX = "TransactionException."
LOOKER = address(0xFEE)


def make(rng, fork):
    """See the module."""
    sender = key(5)
    # Below 2^255, so that no sum of balances leaves 256 bits.
    balance = rng.choice((10**20, 2**127, 2**128, 2**160, 2**200, 2**254))
    # An excess that makes a blob cost up to about 2^120.
    fraction = 3_338_477 if fork == "Cancun" else 5_007_716
    excess = rng.choice((0, 0, 393_216, rng.randrange(10**7), fraction * rng.randrange(20, 80)))
    look = [
        [
            "CALLER",
            "BALANCE",
            1,
            "SSTORE",
            "GASPRICE",
            2,
            "SSTORE",
            "BASEFEE",
            3,
            "SSTORE",
            "COINBASE",
            "BALANCE",
            5,
            "SSTORE",
        ]
    ]
    if since(fork, "Cancun"):
        look.append(["BLOBBASEFEE", 4, "SSTORE"])
    chain = Chain(
        fork,
        {
            sender.address: Account(balance=balance),
            LOOKER: Account(nonce=1, code=code(look, rng.choice((["STOP"], ["INVALID"])))),
        },
        base_fee_per_gas=rng.choice((0, 1, 7, 8, 10**9, 2**40, 2**62)),
        gas_limit=rng.choice((5_000_000, 30_000_000, 2**40, 2**62)),
        excess_blob_gas=excess,
    )
    for _ in range(rng.choice((1, 2, 3))):
        base = chain.base_fee()
        owned = int(chain.account(sender.address).balance)
        nonce = int(chain.account(sender.address).nonce)
        kind = rng.choice((0, 1, 2, 2, 3) if since(fork, "Cancun") else (0, 1, 2))
        most = 16_777_216 if since(fork, "Osaka") else min(int(chain.parent.gas_limit), 2**40)
        gas = rng.choice((150_000, 1_000_000, most))
        value = rng.choice((0, 0, 1))
        blobs = [b"\x01" + bytes(31)] * rng.choice((1, 2)) if kind == 3 else []
        blob_fee, blob_cost = 0, 0
        if kind == 3:
            price = int(chain.spec.gas.calculate_blob_gas_price(chain.spec.gas.calculate_excess_blob_gas(chain.parent)))
            blob_fee = rng.choice((price, price, price + 1, 2 * price, max(0, price - 1)))
            blob_cost = blob_fee * len(blobs) * 131_072
        # The maximum that it can pay, about that, more than that, or the usual; never beyond the 128 bits of a field.
        can = max(0, owned - value - blob_cost) // gas
        fee = min(rng.choice((can, can, can + 1, max(base, can // 2), base, base + 1, 2**127)), 2**128 - 1)
        fields = dict(nonce=nonce, gas=gas, to=rng.choice((LOOKER, LOOKER, address(0xABC))), value=value)
        if kind < 2:
            fields["gas_price"] = fee
        else:
            fields |= dict(max_fee=fee, priority_fee=min(rng.choice((0, 1, fee, fee // 2)), fee))
        if kind == 3:
            fields |= dict(blobs=blobs, max_blob_fee=blob_fee)
        names = ["INSUFFICIENT_ACCOUNT_FUNDS", "INSUFFICIENT_MAX_FEE_PER_GAS", "INSUFFICIENT_MAX_FEE_PER_BLOB_GAS"]
        raw = sign(sender, kind, **fields)
        chain.block(
            [raw], [], {TX + name for name in names}, coinbase=rng.choice((address(0xC01B), sender.address, LOOKER))
        )
    return chain
