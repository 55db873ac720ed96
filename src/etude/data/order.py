"""A permutation of any size that takes hardly any memory, and that is entered anywhere at once."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]

SMALL = 2**16  # up to here the whole permutation is kept; a network mixes a handful of positions badly
ROUNDS = 8  # of the network; four already look random


def permuted(size: int, seed: int, epoch: int, start: int, stop: int) -> npt.NDArray[np.int64]:
    """The part from `start` to `stop` of a permutation of range(size), which is a function of the seed and the epoch.

    A Feistel network (Luby and Rackoff, 1988): a position is written as (row, column) of a square that has room for
    all positions, and each round moves the one by a hash of the other, which can be undone. What comes to lie outside
    of the range goes through the network again, until it is inside (Black and Rogaway, 2002).

    Args:
        size: at most 10^18.

    Returns:
        Indices, shape [stop - start]; the time for each does not depend on `size`.
    """
    if size <= SMALL:
        part: npt.NDArray[np.int64] = _whole(size, seed, epoch)[start:stop].copy()
        return part
    keys, side = _keys(size, seed, epoch), np.uint64(math.isqrt(size - 1) + 1)
    found = _network(np.arange(start, max(start, min(stop, size)), dtype=np.uint64), keys, side)
    while len(outside := np.flatnonzero(found >= np.uint64(size))):
        found[outside] = _network(found[outside], keys, side)
    return found.astype(np.int64)


@lru_cache(maxsize=16)
def _whole(size: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    numbers = np.arange(size, dtype=np.uint64)
    for key in _keys(size, seed, epoch):
        numbers = _hash(numbers ^ key)  # no two of them become equal
    return np.argsort(numbers)


def _keys(size: int, seed: int, epoch: int) -> Numbers:
    # words of its own for the size: data sets of two sizes are not ordered alike
    entropy = [seed % 2**64, epoch, size]
    return np.random.SeedSequence(entropy).generate_state(ROUNDS, np.uint64).astype(np.uint64)


def _network(positions: Numbers, keys: Numbers, side: np.uint64) -> Numbers:
    one, other = np.divmod(positions, side)
    for key in keys:
        one, other = other, (one + _hash(other ^ key) % side) % side
    mixed: Numbers = one * side + other
    return mixed


def _hash(numbers: Numbers) -> Numbers:
    """64 bits in which every bit of the number counts (the last steps of SplitMix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashed: Numbers = numbers ^ (numbers >> np.uint64(31))
    return hashed
