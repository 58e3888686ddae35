"""Signed transactions of all types, as the bytes of EIP-2718.

A transaction is made from a `dict` of its fields, so that a family can change any of them, before the signature or
after it, to what no wallet would sign.
"""

from . import rlp
from .spec import keccak

# The fields of each type in the order of the encoding; the signature follows.
FIELDS = {
    0: "nonce gas_price gas to value data".split(),
    1: "chain_id nonce gas_price gas to value data access_list".split(),
    2: "chain_id nonce priority_fee max_fee gas to value data access_list".split(),
    3: "chain_id nonce priority_fee max_fee gas to value data access_list max_blob_fee blobs".split(),
    4: "chain_id nonce priority_fee max_fee gas to value data access_list authorizations".split(),
}
DEFAULTS = dict(
    chain_id=1, to=b"", value=0, data=b"", gas=100_000, access_list=[], max_blob_fee=1, blobs=[], authorizations=[]
)


def sign(key, kind=0, protected=True, before=None, **fields):
    """The transaction of type `kind` with these fields, signed by `key`.

    `protected`: a legacy transaction names the chain (EIP-155). `before(signature)` may change the list `[v, r, s]`.
    """
    fields = DEFAULTS | fields
    plain = [fields[name] for name in FIELDS[kind]]
    prefix = bytes([kind]) if kind else b""
    signed = plain + [fields["chain_id"], 0, 0] if kind == 0 and protected else plain
    r, s, parity = key.sign(keccak(prefix + rlp.encode(signed)))
    if kind:
        v = parity
    else:
        v = 35 + 2 * fields["chain_id"] + parity if protected else 27 + parity
    signature = [v, r, s]
    if before:
        before(signature)
    return prefix + rlp.encode(plain + signature)


def authorize(key, to, nonce, chain_id=1, before=None):
    """An entry of an authorization list (EIP-7702), signed by `key`."""
    r, s, parity = key.sign(keccak(b"\x05" + rlp.encode([chain_id, to, nonce])))
    signature = [parity, r, s]
    if before:
        before(signature)
    return [chain_id, to, nonce, *signature]
