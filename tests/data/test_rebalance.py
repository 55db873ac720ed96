"""Do balanced micro-batches have the samples of their update, at the least cost?"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.data.rebalance import BatchRebalanceSampler, balanced_sizes
from etude.data.samplers import EpochSampler
from etude.errors import ConfigurationError
from tests.properties import quick

worlds = st.integers(1, 4)
steps = st.integers(1, 4)


def processes(
    lengths: list[int], world: int, accumulation: int, per: int, drop: bool
) -> list[BatchRebalanceSampler]:
    size = world * accumulation * per
    return [
        BatchRebalanceSampler(lengths, size, world, accumulation, seed=3, rank=rank, drop_last=drop)
        for rank in range(world)
    ]


@quick
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=70),
    worlds,
    steps,
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 3),
)
def test_every_update_has_the_samples_of_the_random_order(
    lengths: list[int], world: int, accumulation: int, per: int, drop: bool, epoch: int
) -> None:
    """Nothing is repeated, processes have as many micro-batches; only in the last step some may have none."""
    samplers = processes(lengths, world, accumulation, per, drop)
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [list(sampler.batches_from(0)) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    assert all(batch for share in shares for batch in share[:-1])
    order = EpochSampler(lengths, seed=3)
    order.set_epoch(epoch)
    size = world * accumulation * per
    updates = [list(order)[i : i + size] for i in range(0, len(lengths), size)]
    updates = [update for update in updates if len(update) == size or not drop]
    for number, update in enumerate(updates):
        window = slice(number * accumulation, (number + 1) * accumulation)
        assert sorted(i for share in shares for batch in share[window] for i in batch) == sorted(update)
    assert sum(len(batch) for share in shares for batch in share) == sum(map(len, updates))


@quick
@given(st.lists(st.integers(1, 99), min_size=8, max_size=60), worlds, steps, st.integers(0, 20))
def test_any_step_can_be_entered(lengths: list[int], world: int, accumulation: int, step: int) -> None:
    for sampler in processes(lengths, world, accumulation, 2, False):
        sampler.set_epoch(1)
        whole = list(sampler)
        assert sampler.indices(step, step + 3) == [i for batch in whole[step : step + 3] for i in batch]
        sampler.seek(step)
        assert list(sampler) == whole[step:]
        sampler.set_epoch(1)
        assert list(sampler) == whole


@quick
@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 4))
def test_the_dearest_group_is_as_cheap_as_can_be(numbers: list[int], count: int) -> None:
    """By trying every way to cut."""
    prices = sorted(map(float, numbers), reverse=True)
    if len(prices) < count:
        return

    def dearest(sizes: list[int]) -> float:
        heads = np.cumsum([0, *sizes[:-1]])
        return max(size * prices[head] for size, head in zip(sizes, heads, strict=True))

    ways = [
        np.diff([0, *cuts, len(prices)]).tolist() for cuts in combinations(range(1, len(prices)), count - 1)
    ]
    best = min(map(dearest, ways))
    for side_by_side in (1, count):
        found = balanced_sizes(prices, count, side_by_side)
        assert (len(found), sum(found), min(found) > 0) == (count, len(prices), True)
        assert dearest(found) == best


@pytest.mark.parametrize(("world", "accumulation"), [(2, 1), (4, 2), (2, 4), (1, 8)])
def test_an_update_costs_no_more_than_in_the_reference(world: int, accumulation: int) -> None:
    """What counts: micro-batches that run side by side wait for the dearest of them."""
    from transformers import trainer_pt_utils as reference

    lengths = (np.random.default_rng(1).lognormal(5, 1, 1000).astype(int) + 1).clip(max=4000).tolist()
    size = world * accumulation * 8

    def cost(batch: list[int]) -> float:
        longest = max(lengths[i] for i in batch)
        return len(batch) * longest * (1 + 0.001 * longest)

    def total(cls: type) -> float:
        shares = [list(cls(lengths, size, world, accumulation, rank=rank)) for rank in range(world)]
        return sum(max(map(cost, side_by_side)) for side_by_side in zip(*shares, strict=True))

    def set_of_updates(cls: type) -> list[list[int]]:
        shares = [list(cls(lengths, size, world, accumulation, rank=rank)) for rank in range(world)]
        windows = range(0, len(shares[0]), accumulation)
        return [
            sorted(i for share in shares for b in share[k : k + accumulation] for i in b) for k in windows
        ]

    assert set_of_updates(BatchRebalanceSampler) == set_of_updates(reference.BatchRebalanceSampler)
    assert total(BatchRebalanceSampler) <= total(reference.BatchRebalanceSampler)


def test_fewer_samples_than_micro_batches_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="3.*2 .processes. times 2"):
        BatchRebalanceSampler([1] * 9, 3, 2, 2)


def test_samples_without_length_cost_nothing() -> None:
    (sampler,) = processes([0] * 8, 1, 2, 4, True)
    assert sorted(i for batch in sampler for i in batch) == list(range(8))
    assert len(list(sampler)) == 2


def test_without_shuffling_the_order_is_that_of_the_data() -> None:
    sampler = BatchRebalanceSampler([1, 1, 1, 1], 2, 1, 1, shuffle=False)
    assert [sorted(batch) for batch in sampler] == [[0, 1], [2, 3]]
