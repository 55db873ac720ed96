"""What do ranks and loading processes see of a data set?"""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import IterableDataset

from etude.data.samplers import SeededBatch
from etude.data.shards import RankShard, SeededDataset
from tests.properties import quick


class Numbers(IterableDataset):
    """A stream of numbers that counts how many were read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.epoch = 0
        self.read = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        for number in range(self.size):
            self.read += 1
            yield number + 100 * self.epoch


class SizedNumbers(Numbers):
    """A stream that knows its length."""

    def __len__(self) -> int:
        return self.size


@quick
@given(st.integers(0, 60), st.integers(1, 6), st.integers(1, 5), st.booleans())
def test_ranks_partition_the_stream(size: int, batch: int, world: int, drop: bool) -> None:
    shards = [list(RankShard(Numbers(size), batch, drop, rank, world)) for rank in range(world)]
    whole = size // (batch * world) * (batch * world)
    assert sorted(number for shard in shards for number in shard) == list(range(whole if drop else size))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@quick
@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 5))
def test_each_step_is_a_group_of_the_stream(size: int, batch: int, world: int) -> None:
    shards = [iter(RankShard(Numbers(size), batch, False, rank, world)) for rank in range(world)]
    for start in range(0, size - batch * world + 1, batch * world):
        step = [number for shard in shards for number in islice(shard, batch)]
        assert step == list(range(start, start + batch * world))


def test_a_shard_does_not_read_ahead_of_its_group() -> None:
    stream = Numbers(100)
    shard = iter(RankShard(stream, 2, False, 1, 3))
    assert next(shard) == 2
    assert stream.read == 6


def test_a_shard_passes_the_epoch_on() -> None:
    shard = RankShard(Numbers(4), 1, False, 0, 2)
    shard.set_epoch(3)
    assert list(shard) == [300, 302]
    RankShard(iter(()), 1, False, 0, 2).set_epoch(3)  # a stream without epochs


@pytest.mark.parametrize(("size", "drop"), [(10, False), (10, True), (12, True), (1, False)])
def test_the_steps_of_a_stream_with_a_length_are_known(size: int, drop: bool) -> None:
    batch, world = 2, 3
    loaders = [
        torch.utils.data.DataLoader(RankShard(SizedNumbers(size), batch, drop, rank, world), batch_size=batch)
        for rank in range(world)
    ]
    expected = size // (batch * world) if drop else -(-size // (batch * world))
    assert {len(loader) for loader in loaders} == {expected}


class Drawing:
    """A data set that draws at random when it is read."""

    name = "drawing"

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, random.random(), float(np.random.rand()), float(torch.rand(()))


class DrawingTogether(Drawing):
    """The same, reading a batch at once."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        assert type(indices) is list
        return [("together", *self[index]) for index in indices]


def seeded(indices: list[int], seed: int) -> SeededBatch:
    batch = SeededBatch(indices)
    batch.seed = seed
    return batch


@pytest.mark.parametrize("source", [Drawing, DrawingTogether])
def test_what_is_drawn_depends_on_the_batch_alone(source: Any) -> None:
    dataset = SeededDataset(source())
    first = dataset.__getitems__(seeded([1, 2], 5))
    assert dataset.__getitems__(seeded([1, 2], 6)) != first
    assert dataset.__getitems__(seeded([1, 2], 5)) == first
    assert first[0] != first[1]


def test_batches_without_a_seed_leave_the_random_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(()).item()
    torch.manual_seed(0)
    assert SeededDataset(Drawing()).__getitems__([3])[0][3] == pytest.approx(expected)


def test_the_data_set_shines_through() -> None:
    dataset = SeededDataset(DrawingTogether())
    assert (len(dataset), dataset.name, dataset[4][0]) == (10, "drawing", 4)
    with pytest.raises(AttributeError):
        dataset.missing  # noqa: B018
    for copied in (copy.copy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert copied.__getitems__([7])[0][:2] == ("together", 7)


def test_a_seed_survives_the_way_to_a_process() -> None:
    batch = pickle.loads(pickle.dumps(seeded([1, 2], 2**62 + 1)))
    assert (batch, batch.seed) == ([1, 2], 2**62 + 1)
