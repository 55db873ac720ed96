"""Do samplers that divide the data themselves divide it as the reference's do?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import IterableDataset

from etude.data import divided
from etude.data.grouping import DistributedLengthGroupedSampler
from tests.properties import quick

places = st.integers(1, 4).flatmap(lambda world: st.tuples(st.just(world), st.integers(0, world - 1)))


class Stream(IterableDataset):
    """Numbers, with noise from a generator that the shard seeds."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.generator = torch.Generator()

    def __iter__(self) -> Iterator[float]:
        return (i + torch.rand((), generator=self.generator).item() for i in range(self.size))

    def __len__(self) -> int:
        return self.size


def both(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    from transformers import trainer_pt_utils as reference

    return getattr(divided, name)(*args, **kwargs), getattr(reference, name)(*args, **kwargs)


@quick
@given(st.integers(1, 30), st.integers(1, 5), places, st.booleans())
def test_shards_are_those_of_the_reference(size: int, batch: int, place: tuple[int, int], drop: bool) -> None:
    world, rank = place
    ours, theirs = both("ShardSampler", range(size), batch, drop, world, rank)
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)


@quick
@given(st.integers(0, 30), st.integers(1, 5), places, st.booleans(), st.integers(0, 3))
def test_shards_of_streams_are_those_of_the_reference(
    size: int, batch: int, place: tuple[int, int], drop: bool, epoch: int
) -> None:
    made = both("IterableDatasetShard", Stream(size), batch, drop, *place, seed=4)
    for shard in made:
        shard.set_epoch(epoch)
    ours, theirs = map(list, made)
    assert ours == theirs
    assert len(made[0]) == len(made[1]) == len(ours)
    assert made[0].num_examples == made[1].num_examples


@quick
@given(st.integers(2, 30), st.integers(1, 5), places, st.integers(0, 3))
def test_looping_shares_fill_their_batches(size: int, batch: int, place: tuple[int, int], epoch: int) -> None:
    world, rank = place
    ours, theirs = both("DistributedSamplerWithLoop", range(size), batch, num_replicas=world, rank=rank)
    for sampler in (ours, theirs):
        sampler.set_epoch(epoch)
    found, expected = list(ours), list(theirs)
    assert found[: len(expected)] == expected
    assert len(found) % batch == 0  # the reference stops short where a share is smaller than a batch
    assert set(found) == set(expected)


def test_streams_tell_their_data_which_epoch_it_is() -> None:
    class Told(Stream):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    stream = Told(3)
    shard = divided.IterableDatasetShard(stream)
    shard.set_epoch(2)
    assert stream.epoch == 2
    before = stream.generator.get_state()
    iter(shard)
    assert torch.equal(stream.generator.get_state(), before)


def test_grouped_shares_are_pytorchs_kind_of_sampler() -> None:
    """So that a loader takes them as divided already."""
    sampler = DistributedLengthGroupedSampler(2, num_replicas=2, rank=1, lengths=[1, 2, 3])
    assert isinstance(sampler, torch.utils.data.distributed.DistributedSampler)
