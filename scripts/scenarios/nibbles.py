"""Slots and addresses whose hashes begin alike, for tries that are deep in one place.

`python3 -m scenarios.nibbles` searches for them, in about a minute, and prints the tables of `families/tries.py`.
"""

import collections

from .spec import keccak

# How many numbers are tried: enough for pairs of nine or ten nibbles.
COUNT = 1 << 20


def groups(width, most):
    """`{shared: [[a, b, *others], ..]}`: the hashes of `a` and `b`, as `width` bytes, share so many nibbles.

    Each of the `others` shares fewer with them, five at most, so that the branches stand one above the other.
    """
    digests = [keccak(number.to_bytes(width, "big")).hex() for number in range(COUNT)]
    found, first = collections.defaultdict(list), {}
    for number, digest in enumerate(digests):
        for length in (9, 8, 7):
            other = first.setdefault(digest[:length], number)
            if other != number:
                shared = next(at for at in range(64) if digest[at] != digests[other][at])
                found[shared].append([other, number])
                break
    found = {shared: found[shared][:most] for shared in sorted(found)}
    for group in (group for some in found.values() for group in some):
        for length in (5, 3, 1):
            digest = digests[group[0]]
            like = (
                number
                for number, other in enumerate(digests)
                if other[:length] == digest[:length] and other[length] != digest[length]
            )
            group += [number for number in (next(like, None),) if number is not None]
    return found


def main():
    for name, width in (("SLOTS", 32), ("ADDRESSES", 20)):
        print(f"{name} = {{")
        for shared, some in groups(width, 6).items():
            print(f"    {shared}: {some},")
        print("}")


if __name__ == "__main__":
    main()
