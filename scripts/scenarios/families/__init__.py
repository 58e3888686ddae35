"""The families of scenarios: each module's `make(rng, fork)` returns a chain with its blocks."""

import importlib

# Of as many consecutive seeds as these add up to, how many belong to each family.
WEIGHTS = {
    "lifecycles": 5,
    "collisions": 2,
    "delegations": 2,
    "transactions": 3,
    "fees": 1,
    "headers": 2,
    "system_contracts": 2,
    "deposits": 1,
    "withdrawals": 1,
    "tries": 1,
}
_TURNS = [name for turn in range(max(WEIGHTS.values())) for name, weight in WEIGHTS.items() if turn < weight]


def of_seed(seed):
    """The name of the family that a seed belongs to."""
    return _TURNS[seed % len(_TURNS)]


def maker(name):
    """The `make` of a family."""
    return importlib.import_module(f"{__package__}.{name}").make
