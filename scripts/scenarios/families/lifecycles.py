"""Lives of accounts: created, called, destroyed, paid and created again, within a transaction, a block and a batch."""

from .. import rlp
from ..chain import Account, Chain
from ..programs import World
from ..spec import address, keccak, key, since
from ..transactions import authorize, sign

FACTORY = address(0xFAC0)


def create2_address(creator, salt, init_code):
    """Where CREATE2 puts a contract."""
    return keccak(b"\xff" + creator + salt.to_bytes(32, "big") + keccak(init_code))[12:]


def create_address(creator, nonce):
    """Where CREATE and a transaction put a contract."""
    return keccak(rlp.encode([creator, nonce]))[12:]


def odd_account(rng):
    """An account without code that has some of balance, nonce and storage, perhaps none."""
    return Account(
        balance=rng.choice((0, 0, 1, 10**9)),
        nonce=rng.choice((0, 0, 0, 1)),
        storage={}
        if rng.random() < 0.3
        else {slot: rng.choice((1, 7)) for slot in rng.sample((0, 1, 2), rng.randrange(1, 3))},
    )


def make(rng, fork):
    """See the module."""
    world = World(rng, fork)
    senders = [key(1), key(2)]
    authority = key(3)
    contracts = [address(0xC000 + number) for number in range(3)]
    odd = [address(0xE000 + number) for number in range(3)]
    coinbase = rng.choice(
        (address(0xC01B), address(0xC01B), odd[0], contracts[0], senders[0].address, authority.address)
    )
    world.addresses = [
        *contracts,
        FACTORY,
        *odd,
        coinbase,
        authority.address,
        senders[0].address,
        address(0xAB5E47),
        address(2),
    ]
    # Deployed code may refer to the accounts above, and other contracts refer to it.
    world.init_codes = [world.init_code(world.program(2)) for _ in range(2)]
    world.init_codes.append(world.init_code(world.program(2)))
    made = [create2_address(FACTORY, salt, init) for salt in (0, 1) for init in world.init_codes]
    made += [create_address(FACTORY, nonce) for nonce in (1, 2, 3)]
    made += [create_address(senders[0].address, nonce) for nonce in (0, 1)]
    made += [create2_address(contracts[0], 0, world.init_codes[0]), create_address(contracts[0], 1)]
    world.addresses += made * 2
    accounts = {sender.address: Account(balance=10**20) for sender in senders}
    for contract in [*contracts, FACTORY]:
        accounts[contract] = Account(
            balance=rng.choice((0, 5)),
            nonce=1,
            code=world.program(),
            storage={0: 5, 1: 6} if rng.random() < 0.5 else {},
        )
    for where in odd[:2]:
        accounts[where] = odd_account(rng)
    for where in rng.sample(made, 2):
        if rng.random() < 0.6:
            accounts[where] = odd_account(rng)
    if rng.random() < 0.5:
        accounts[authority.address] = odd_account(rng)
    chain = Chain(fork, accounts)
    for _ in range(rng.choice((1, 2, 2, 3, 4))):
        transactions, nonces = [], {}
        for _ in range(rng.choice((1, 1, 2, 3))):
            transactions.append(_transaction(rng, chain, world, senders, authority, contracts, nonces))
        withdrawals = []
        if since(fork, "Shanghai") and rng.random() < 0.5:
            withdrawals = [
                [index, 0, rng.choice(world.addresses), rng.choice((0, 0, 1))] for index in range(rng.randrange(1, 4))
            ]
        chain.block(transactions, withdrawals, spoil=rng, coinbase=coinbase)
    return chain


def _transaction(rng, chain, world, senders, authority, contracts, nonces):
    sender = rng.choice(senders)
    nonce = nonces.get(sender.address, int(chain.account(sender.address).nonce))
    nonces[sender.address] = nonce + 1
    base = chain.base_fee()
    tip = rng.choice((0, 0, 1))
    common = dict(nonce=nonce, gas=300_000, value=rng.choice((0, 0, 1, 2)), data=b"\1" * rng.randrange(4))
    to = rng.choice(contracts + [FACTORY] * 3 + [rng.choice(world.addresses)] * 2)
    if rng.random() < 0.12:
        return sign(sender, 0, gas_price=base + tip, to=b"", **common | {"data": rng.choice(world.init_codes)[:2000]})
    if since(chain.fork, "Prague") and rng.random() < 0.25:
        known = int(chain.account(authority.address).nonce) + nonces.get(authority.address, 0)
        nonces[authority.address] = nonces.get(authority.address, 0) + 1
        target = rng.choice([*world.addresses, bytes(20)])
        entry = authorize(authority, target, rng.choice((known, known, known, 0)), rng.choice((0, 1)))
        to = rng.choice((to, authority.address))
        return sign(sender, 4, max_fee=base + tip, priority_fee=tip, to=to, authorizations=[entry], **common)
    if rng.random() < 0.2:
        listed = [[rng.choice(world.addresses), [(1).to_bytes(32, "big")]]]
        return sign(sender, 2, max_fee=base + tip, priority_fee=tip, to=to, access_list=listed, **common)
    return sign(sender, 0, gas_price=base + tip, to=to, **common)
