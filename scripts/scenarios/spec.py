"""The executable specification's modules, and what all scenarios use of them."""

import functools
import importlib
import random
import types

import coincurve
from Crypto.Hash import keccak as _keccak

FORKS = ("Paris", "Shanghai", "Cancun", "Prague", "Osaka")
SECP256K1N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def aside(rng):
    """A random generator of its own, so that a seed still makes what it made before this generator was used."""
    return random.Random(f"{rng.getstate()}")


def since(fork, first):
    """Whether `fork` is `first` or later."""
    return FORKS.index(fork) >= FORKS.index(first)


@functools.cache
def modules(fork):
    """The specification's modules of a fork, by their names."""
    names = ["blocks", "bloom", "exceptions", "fork", "fork_types", "state", "transactions", "trie", "vm", "vm.gas"]
    names += ["requests"] if since(fork, "Prague") else []
    found = {
        name.rpartition(".")[2]: importlib.import_module(f"ethereum.forks.{fork.lower()}.{name}") for name in names
    }
    return types.SimpleNamespace(**found)


def keccak(data):
    """Keccak-256, as plain bytes."""
    return _keccak.new(digest_bits=256, data=bytes(data)).digest()


def address(value):
    """Twenty bytes from a number or from bytes."""
    return value.to_bytes(20, "big") if isinstance(value, int) else bytes(value)


class Key:
    """A secret key and its address."""

    def __init__(self, number):
        self._key = coincurve.PrivateKey(number.to_bytes(32, "big"))
        self.address = keccak(self._key.public_key.format(compressed=False)[1:])[12:]

    def sign(self, digest):
        """`(r, s, parity)`, with the low `s`."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]


@functools.cache
def key(number):
    """The key with this number; making one costs more than signing."""
    return Key(number)
