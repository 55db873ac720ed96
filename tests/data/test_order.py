"""The permutation that takes no memory is one, looks random, and is entered anywhere."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.data import order
from etude.data.order import permuted
from etude.data.samplers import EpochSampler, GlobalBatchSampler

HUGE = 10**12


@pytest.mark.parametrize("small", [0, order.SMALL])
@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 700), seed=st.integers(0, 2**40), epoch=st.integers(0, 99))
def test_every_index_comes_once(small: int, size: int, seed: int, epoch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "SMALL", small)
        assert np.array_equal(np.sort(permuted(size, seed, epoch, 0, size)), np.arange(size))


@pytest.mark.parametrize("size", [500, 70_000, HUGE])
def test_a_part_is_that_of_the_whole(size: int) -> None:
    whole = permuted(size, 3, 1, 0, 500)
    assert np.array_equal(
        np.concatenate([permuted(size, 3, 1, i, i + 7) for i in range(0, 497, 7)]), whole[:497]
    )
    assert len(permuted(size, 3, 1, size - 2, size + 5)) == 2
    assert len(permuted(size, 3, 1, size, size + 5)) == 0


def test_a_network_of_its_smallest_size_and_beyond_is_a_permutation() -> None:
    size = order.SMALL + 1
    assert np.array_equal(np.sort(permuted(size, 0, 0, 0, size)), np.arange(size))


def test_orders_of_tiny_sets_are_equally_likely() -> None:
    counts = Counter(tuple(permuted(4, seed, 0, 0, 4).tolist()) for seed in range(6000))
    assert len(counts) == math.factorial(4)
    assert chi_square(np.array(list(counts.values()))) < 49.7  # 23 degrees of freedom: 1 in 1000 lies beyond


@pytest.mark.parametrize("size", [100_003, 2**40, HUGE])
def test_places_and_steps_are_uniform(size: int) -> None:
    """Where samples come from, and how far it is from one to the next, whose distance is triangular."""
    indices = permuted(size, 11, 4, size // 3, size // 3 + 20_000)
    assert len(np.unique(indices)) == len(indices)
    assert chi_square(np.bincount((indices / size * 64).astype(int), minlength=64)) < 103.4
    steps = (np.diff(indices) % size) / size
    assert chi_square(np.bincount((steps * 64).astype(int), minlength=64)) < 103.4
    assert abs(np.corrcoef(indices[:-1], indices[1:])[0, 1]) < 0.03


def test_epochs_and_seeds_differ() -> None:
    parts = [permuted(HUGE, seed, epoch, 0, 1000) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({part.tobytes() for part in parts}) == 6
    assert not any(np.isin(parts[0], other).any() for other in parts[1:])


class Endless:
    def __len__(self) -> int:
        return HUGE


def test_a_sampler_of_a_huge_set_is_entered_at_once() -> None:
    def batches(rank: int, world: int) -> GlobalBatchSampler:
        made = GlobalBatchSampler(EpochSampler(Endless(), seed=5), 8 // world, False, rank, world)
        made.set_epoch(2)
        made.seek(10**11)
        return made

    alone = list(islice(batches(0, 1), 3))
    assert np.array_equal(np.concatenate(alone), permuted(HUGE, 5, 2, 8 * 10**11, 8 * 10**11 + 24))
    pair = [list(islice(batches(rank, 2), 3)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*pair, strict=True)] == alone


def test_smaller_sets_keep_the_order_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = EpochSampler(range(50), seed=5)
    drawn = sampler.order().tolist()
    assert list(sampler) == drawn
    monkeypatch.setattr(EpochSampler, "LARGEST_DRAWN", 49)
    assert list(sampler) != drawn
    assert sorted(sampler) == list(range(50))


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())
