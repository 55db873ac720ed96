"""Does a loader begin at any position, and read nothing on the way?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from etude.core.world import World
from etude.data import epoch as walking
from etude.data import loader as loading
from etude.data.loader import LoaderSettings
from etude.data.samplers import EpochSampler, GlobalBatchSampler
from etude.errors import DataError
from tests.properties import quick


class Reads:
    """A map-style data set that remembers what was read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        self.read.append(index)
        return index


class Stream(IterableDataset):
    """A stream of numbers."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size))


def own_loader(dataset: Any, rank: int = 0, size: int = 1, sampler: Any = None, **options: Any) -> Any:
    order = (
        EpochSampler(dataset, 3) if sampler is None and not isinstance(dataset, IterableDataset) else sampler
    )
    defaults = {"batch_size": 2, "drop_last": False, "seed": 3, "settings": LoaderSettings()}
    return loading.train_loader(
        dataset, order, list, world=World(rank, rank, size), **{**defaults, **options}
    )


def evaluation_loader(dataset: Any, rank: int = 0, size: int = 1) -> Any:
    return loading.eval_loader(
        dataset, None if isinstance(dataset, IterableDataset) else SequentialSampler(dataset), list,
        batch_size=2, seed=3, world=World(rank, rank, size), settings=LoaderSettings(),
    )  # fmt: skip


@quick
@given(st.integers(1, 20), st.integers(0, 12), st.integers(0, 3))
def test_an_own_loader_begins_anywhere_and_reads_only_that(size: int, step: int, epoch: int) -> None:
    dataset = Reads(size)
    loader = own_loader(dataset)
    walking.set_epoch(loader, epoch)
    expected = list(walking.start_at(loader, 0))[step:]
    dataset.read.clear()
    walking.set_epoch(loader, epoch)
    assert list(walking.start_at(loader, step)) == expected
    assert dataset.read == [index for batch in expected for index in batch]


def foreign_loaders(dataset: Any) -> dict[str, DataLoader[Any]]:
    return {
        "sequential": DataLoader(dataset, batch_size=3),
        "dropping": DataLoader(dataset, batch_size=3, drop_last=True),
        "shuffled": DataLoader(dataset, batch_size=3, shuffle=True),
        "generator": DataLoader(
            dataset, batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(4)
        ),
        "batches": DataLoader(dataset, batch_sampler=BatchSampler(SequentialSampler(dataset), 4, False)),
        "collating": DataLoader(dataset, batch_size=2, collate_fn=lambda rows: {"sum": sum(rows)}),
    }


@pytest.mark.parametrize("name", foreign_loaders([0]))
def test_a_foreign_loader_is_entered_without_reading_data(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = Reads(11)
    torch.manual_seed(5)
    expected = list(foreign_loaders(dataset)[name])
    dataset.read.clear()
    torch.manual_seed(5)
    rest = walking.start_at(foreign_loaders(dataset)[name], 2)
    first = next(rest)
    assert len(dataset.read) <= 4
    assert str([first, *rest]) == str(expected[2:])
    assert not caplog.records


@pytest.mark.parametrize(
    "make", [lambda d: type("Mine", (DataLoader,), {})(d, 2), lambda d: DataLoader(Stream(9), 2)]
)
def test_what_cannot_be_entered_is_read_past_and_said(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    expected = list(make(Reads(9)))[3:]
    with caplog.at_level(logging.WARNING):
        found = list(walking.start_at(make(Reads(9)), 3))
    assert [batch.tolist() for batch in found] == [batch.tolist() for batch in expected]
    assert "reading past the 3 batches" in caplog.text


def test_reading_past_the_end_ends() -> None:
    assert list(walking.start_at(DataLoader(Stream(3), 2), 9)) == []


@pytest.mark.parametrize("data", [Reads(11), Stream(11)])
def test_ranks_share_training_data(data: Any) -> None:
    seen = [index for rank in range(3) for batch in own_loader(data, rank, 3) for index in batch]
    assert sorted(seen) == list(range(11))


@pytest.mark.parametrize("data", [Reads(11), Stream(11)])
def test_ranks_share_evaluation_data(data: Any) -> None:
    shares = [list(evaluation_loader(data, rank, 3)) for rank in range(3)]
    assert sorted(index for share in shares for batch in share for index in batch) == list(range(11))
    assert shares[0][:2] == [[0, 1], [6, 7]]


def test_evaluation_draws_what_it_draws_with_a_loader_of_pytorch() -> None:
    """One number: a model that draws while it is evaluated then draws the same as under the reference."""
    drawn = []
    for loader in (DataLoader(Reads(5), batch_size=2), evaluation_loader(Reads(5))):
        torch.manual_seed(3)
        list(loader)
        drawn.append(torch.rand(()))
    assert drawn[0] == drawn[1]


def test_a_distributed_sampler_has_divided_already() -> None:
    dataset = Reads(12)
    sampler = DistributedSampler(dataset, num_replicas=2, rank=1, shuffle=False)
    assert list(own_loader(dataset, 1, 2, sampler=sampler)) == [[1, 3], [5, 7], [9, 11]]


def test_a_batch_sampler_is_taken_as_it_is() -> None:
    dataset = Reads(5)
    assert list(own_loader(dataset, sampler=BatchSampler(SequentialSampler(dataset), 3, True))) == [[0, 1, 2]]


def test_pytorchs_random_sampler_becomes_one_that_can_be_found_again() -> None:
    dataset = Reads(20)
    sampler = loading.reseeded(RandomSampler(dataset), 3)
    assert isinstance(sampler, EpochSampler)
    assert list(sampler) == list(EpochSampler(dataset, 3))


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(range(5), replacement=True),
        RandomSampler(range(5), num_samples=3),
        WeightedRandomSampler([1.0, 2.0], 2),
        SequentialSampler(range(5)),
        None,
    ],
    ids=str,
)
def test_other_samplers_are_the_users_decision(sampler: Any) -> None:
    assert loading.reseeded(sampler, 3) is sampler


class Told:
    """Something that counts how often it was told the epoch."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)


def test_everything_that_wants_to_know_the_epoch_is_told_once() -> None:
    class ToldData(Told, Reads):
        def __init__(self) -> None:
            Told.__init__(self)
            Reads.__init__(self, 5)

    class ToldSampler(Told, SequentialSampler):
        def __init__(self, data: Any) -> None:
            Told.__init__(self)
            SequentialSampler.__init__(self, data)

    data = ToldData()
    sampler = ToldSampler(data)
    walking.set_epoch(DataLoader(data, sampler=sampler), 4)
    assert data.told == sampler.told == [4]
    walking.set_epoch(own_loader(data, sampler=sampler), 5)
    assert set(data.told) == set(sampler.told) == {4, 5}


def test_a_data_set_behind_loading_processes_is_told_the_epoch() -> None:
    class ToldStream(Told, Stream):
        def __init__(self) -> None:
            Told.__init__(self)
            Stream.__init__(self, 8)

    stream = ToldStream()
    walking.set_epoch(own_loader(stream, 0, 2), 2)
    walking.set_epoch(own_loader(stream), 3)
    assert stream.told == [2, 3]


def test_samples_of_steps_are_known_for_own_loaders_only() -> None:
    dataset = Reads(9)
    loader = own_loader(dataset)
    batches = list(loader)
    assert walking.samples_of(loader, 1, 3) == [*batches[1], *batches[2]]
    assert walking.samples_of(DataLoader(dataset), 0, 1) is None


def test_a_process_without_samples_gets_a_batch_of_one() -> None:
    assert loading.any_batch(own_loader(Reads(3))) == [0]
    with pytest.raises(DataError, match="at least as many samples as there are processes"):
        loading.any_batch(own_loader(Stream(3)))


@pytest.mark.parametrize(
    ("data", "known"),
    [([1], True), (Stream(1), False), (DataLoader(Stream(1)), False), (DataLoader([1]), True)],
)
def test_a_length_is_known_or_not(data: Any, known: bool) -> None:
    assert loading.has_length(data) is known


@pytest.mark.parametrize(
    ("data", "is_stream"), [([1], False), (Stream(1), True), (iter([1]), True), ({0: 1}, False)]
)
def test_streams_are_told_from_maps(data: Any, is_stream: bool) -> None:
    assert loading.is_iterable(data) is is_stream


def test_the_number_of_samples_is_the_data_sets() -> None:
    assert loading.num_samples(own_loader(Reads(7))) == 7
    assert loading.num_samples(own_loader(Stream(7))) is None
    assert loading.num_samples([1, 2]) is None


def test_loading_processes_draw_what_the_position_says() -> None:
    class Drawing(Reads):
        def __getitem__(self, index: int) -> float:
            return float(torch.rand(()))

    loader = own_loader(Drawing(8), settings=LoaderSettings(num_workers=1))
    assert isinstance(loader.batch_sampler, GlobalBatchSampler)
    whole = list(loader)
    walking.set_epoch(loader, 0)
    assert list(walking.start_at(loader, 2)) == whole[2:]


def test_ranks_of_a_divided_sampler_do_not_draw_the_same() -> None:
    data = Reads(8)
    loaders = [
        own_loader(data, rank, 2, DistributedSampler(data, 2, rank), settings=LoaderSettings(num_workers=1))
        for rank in range(2)
    ]
    seeds = [[batch.seed for batch in loader.batch_sampler] for loader in loaders]
    assert len({*seeds[0], *seeds[1]}) == len(seeds[0]) * 2
