"""Do the ranks' slices add up to the global order, from any position, for every size?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, Sampler, SequentialSampler

from etude.core.rng import seed_for
from etude.data.samplers import EpochSampler, EveryNth, GlobalBatchSampler, SeededBatch, Skipping
from tests.properties import quick

sizes = st.integers(1, 60)
batch_sizes = st.integers(1, 7)
worlds = st.integers(1, 5)
epochs = st.integers(0, 5)


class Backwards(Sampler[int]):
    """A user's own order, which can only be walked."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size - 1, -1, -1))

    def __len__(self) -> int:
        return self.size


orders = {
    "random": lambda size: EpochSampler(range(size), seed=3),
    "sequential": lambda size: SequentialSampler(range(size)),
    "own": Backwards,
}
kinds = st.sampled_from(sorted(orders))


def ranks(
    kind: str, size: int, batch: int, world: int, drop: bool, epoch: int = 0
) -> list[GlobalBatchSampler]:
    samplers = [GlobalBatchSampler(orders[kind](size), batch, drop, rank, world) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers


def global_order(kind: str, size: int, epoch: int) -> list[int]:
    order = orders[kind](size)
    if kind == "random":
        order.set_epoch(epoch)
    return list(order)


@quick
@given(kinds, sizes, batch_sizes, worlds, epochs)
def test_slices_of_all_ranks_are_the_global_order(
    kind: str, size: int, batch: int, world: int, epoch: int
) -> None:
    steps = zip_longest(*ranks(kind, size, batch, world, False, epoch), fillvalue=[])
    joined = [index for step in steps for slice_ in step for index in slice_]
    assert joined == global_order(kind, size, epoch)


@quick
@given(kinds, sizes, batch_sizes, worlds, epochs)
def test_dropping_leaves_out_only_the_last_group(
    kind: str, size: int, batch: int, world: int, epoch: int
) -> None:
    samplers = ranks(kind, size, batch, world, True, epoch)
    steps = [list(step) for step in zip(*samplers, strict=True)]
    joined = [index for step in steps for slice_ in step for index in slice_]
    whole = size // (batch * world) * (batch * world)
    assert joined == global_order(kind, size, epoch)[:whole]
    assert {len(slice_) for step in steps for slice_ in step} <= {batch}


@quick
@given(kinds, sizes, batch_sizes, worlds)
def test_the_rest_is_divided_evenly(kind: str, size: int, batch: int, world: int) -> None:
    for step in zip_longest(*ranks(kind, size, batch, world, False), fillvalue=[]):
        lengths = [len(slice_) for slice_ in step]
        assert max(lengths) - min(lengths) <= 1
        assert max(lengths) <= batch


@quick
@given(kinds, sizes, batch_sizes, worlds, st.booleans())
def test_the_length_is_the_same_on_all_ranks_and_reached_by_one(
    kind: str, size: int, batch: int, world: int, drop: bool
) -> None:
    samplers = ranks(kind, size, batch, world, drop)
    lengths = {len(sampler) for sampler in samplers}
    found = [len(list(sampler)) for sampler in samplers]
    assert lengths == {max(found)}
    assert min(found) >= max(found) - 1


@quick
@given(kinds, sizes, batch_sizes, worlds, st.booleans(), epochs, st.data())
def test_seeking_equals_walking(
    kind: str, size: int, batch: int, world: int, drop: bool, epoch: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, world - 1))
    sampler = ranks(kind, size, batch, world, drop, epoch)[rank]
    walked = list(sampler)
    step = data.draw(st.integers(0, len(sampler) + 1))
    sampler.seek(step)
    assert list(sampler) == walked[step:]
    sampler.set_epoch(epoch)
    assert list(sampler) == walked


@quick
@given(kinds, sizes, batch_sizes, worlds, st.data())
def test_indices_of_steps_are_those_of_their_batches(
    kind: str, size: int, batch: int, world: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, world - 1))
    sampler = ranks(kind, size, batch, world, False)[rank]
    start = data.draw(st.integers(0, len(sampler)))
    stop = data.draw(st.integers(start, len(sampler) + 1))
    assert sampler.indices(start, stop) == [index for step in list(sampler)[start:stop] for index in step]


@quick
@given(st.integers(1, 50), st.integers(0, 2**31), epochs)
def test_the_order_of_an_epoch_is_the_references(size: int, seed: int, epoch: int) -> None:
    from accelerate.data_loader import SeedableRandomSampler

    theirs = SeedableRandomSampler(range(size), data_seed=seed)
    theirs.set_epoch(epoch)
    ours = EpochSampler(range(size), seed)
    ours.set_epoch(epoch)
    assert list(ours) == list(theirs)
    assert list(ours) == list(ours)


def test_drawing_an_order_leaves_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    list(GlobalBatchSampler(EpochSampler(range(20), 1), 3, False, seed=5))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_epochs_differ() -> None:
    sampler = GlobalBatchSampler(EpochSampler(range(50), 1), 50, False)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first


def seeds(sampler: GlobalBatchSampler) -> list[int]:
    found: list[Any] = list(sampler)
    assert all(isinstance(batch, SeededBatch) for batch in found)
    return [batch.seed for batch in found]


def test_seeds_belong_to_the_place_and_not_to_the_way_there() -> None:
    sampler = GlobalBatchSampler(SequentialSampler(range(40)), 2, False, rank=1, world_size=2, seed=9)
    sampler.set_epoch(3)
    walked = seeds(sampler)
    assert walked == [seed_for(9, 3, step, 1) for step in range(10)]
    sampler.seek(4)
    assert seeds(sampler) == walked[4:]


def test_batches_have_no_seed_unless_asked_for() -> None:
    assert {type(batch) for batch in GlobalBatchSampler(SequentialSampler(range(5)), 2, False)} == {list}


@quick
@given(sizes, batch_sizes, worlds)
def test_every_nth_covers_every_batch_once(size: int, batch: int, world: int) -> None:
    batches = BatchSampler(SequentialSampler(range(size)), batch, drop_last=False)
    shares = [EveryNth(batches, rank, world) for rank in range(world)]
    assert [len(list(share)) for share in shares] == [len(share) for share in shares]
    joined = [part for step in zip_longest(*shares) for part in step if part is not None]
    assert joined == list(batches)


@quick
@given(sizes, batch_sizes, st.integers(0, 20))
def test_skipping_leaves_out_the_first_batches(size: int, batch: int, skip: int) -> None:
    batches = BatchSampler(SequentialSampler(range(size)), batch, drop_last=False)
    skipping = Skipping(batches, skip)
    assert list(skipping) == list(batches)[skip:]
    assert len(skipping) == len(list(skipping))


def test_an_own_sampler_is_told_the_epoch() -> None:
    class Shifting(Backwards):
        def set_epoch(self, epoch: int) -> None:
            self.size = epoch

    sampler = GlobalBatchSampler(Shifting(3), 2, False)
    sampler.set_epoch(5)
    assert list(sampler) == [[4, 3], [2, 1], [0]]


@pytest.mark.parametrize("drop", [True, False])
def test_the_reference_has_the_same_number_of_steps(drop: bool) -> None:
    for size in range(1, 30):
        loader = torch.utils.data.DataLoader(range(size), batch_size=4, drop_last=drop)
        assert len(GlobalBatchSampler(SequentialSampler(range(size)), 4, drop)) == len(loader)
