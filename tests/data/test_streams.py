"""Does an epoch of a stream go on exactly where it was left, and is nothing read that need not be?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from etude.core.rng import random_state, restore_random_state
from etude.core.world import World
from etude.data import epoch as walking
from etude.data import replay
from etude.data.loader import LoaderSettings, train_loader
from etude.data.places import Mark, Place
from etude.data.prepared import prepared
from etude.data.streams import StreamLoader, keeps_state
from etude.errors import CheckpointError
from tests.properties import quick

# --- streams ------------------------------------------------------------------------------------------------------


class Numbers(IterableDataset):
    """Numbers that loading processes share, the first ones having more of them; each is another in every epoch."""

    def __init__(self, size: int = 23) -> None:
        self.size = size
        self.epoch = 0
        self.read = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def numbers(self) -> list[int]:
        worker = get_worker_info()
        if worker is None:
            return list(range(self.size))
        begin, end = (
            round(self.size * (share / worker.num_workers) ** 0.5) for share in (worker.id, worker.id + 1)
        )
        return list(range(begin, end))

    def __iter__(self) -> Iterator[int]:
        for number in self.numbers():
            self.read += 1
            yield 1000 * self.epoch + number


class Stateful(Numbers):
    """The same, which can be entered anywhere. Once through, it is at its beginning again."""

    def __init__(self, size: int = 23) -> None:
        super().__init__(size)
        self.at = 0

    def __iter__(self) -> Iterator[int]:
        numbers = self.numbers()
        while self.at < len(numbers):
            self.at += 1
            self.read += 1
            yield 1000 * self.epoch + numbers[self.at - 1]
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.at = state_dict["at"]


class Once(Stateful):
    """The same for one pass: torchdata asks a loading process that is through for one batch more."""

    def __iter__(self) -> Iterator[int]:
        yield from super().__iter__()
        self.at = self.size


class Unfinished(Stateful):
    """Methods that are there to be filled in."""

    def state_dict(self) -> dict[str, int]:
        raise NotImplementedError


class Buffered(Numbers):
    """Shuffled through a buffer, with a generator of its own."""

    def __iter__(self) -> Iterator[int]:
        draws, buffer = random.Random(self.epoch), []
        for number in super().__iter__():
            buffer.append(number)
            if len(buffer) > 5:
                yield buffer.pop(draws.randrange(len(buffer)))
        yield from buffer


class Noisy(Stateful):
    """Numbers with noise from every generator."""

    def __iter__(self) -> Iterator[Any]:
        for number in super().__iter__():
            yield (number, float(torch.rand(())), float(np.random.rand()), random.random())


def piped(make: Callable[[Any], Any]) -> Callable[[], Any]:
    """A pipeline of the package datasets."""

    def stream() -> Any:
        from datasets import Dataset

        return make(Dataset.from_dict({"x": list(range(23))}).to_iterable_dataset(num_shards=3))

    return stream


def double(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": row["x"] * 2}


def doubled(rows: dict[str, Any]) -> dict[str, Any]:
    return {"x": [x for value in rows["x"] for x in (value, -value)]}


def interleaved(stream: Any) -> Any:
    from datasets import interleave_datasets

    return interleave_datasets([stream, stream.map(double)], probabilities=[0.3, 0.7], seed=4)


PIPELINES: dict[str, Callable[[], Any]] = {
    "datasets": piped(lambda s: s),
    "datasets-map": piped(lambda s: s.map(double)),
    "datasets-batched-map": piped(lambda s: s.map(doubled, batched=True, batch_size=4)),
    "datasets-filter": piped(lambda s: s.filter(lambda row: row["x"] % 3 > 0)),
    "datasets-torch": piped(lambda s: s.with_format("torch")),
    "datasets-interleaved": piped(interleaved),
    "datasets-skip-take": piped(lambda s: s.skip(3).take(15)),
    "datasets-shuffled-shards": piped(lambda s: s.shuffle(seed=3, buffer_size=1)),
    "datasets-shuffled": piped(lambda s: s.shuffle(seed=3, buffer_size=6)),
    "datasets-shuffled-then-mapped": piped(lambda s: s.shuffle(seed=3, buffer_size=6).map(double)),
}
ALONE = World()
STREAMS: dict[str, Callable[[], Any]] = {
    "plain": Numbers,
    "stateful": Stateful,
    "unfinished": Unfinished,
    "buffered": Buffered,
    **PIPELINES,
}


def loader_of(stream: Any, workers: int = 0, world: World = ALONE, **options: Any) -> Any:
    settings = LoaderSettings(num_workers=workers, persistent_workers=options.pop("persistent", False))
    options = {"batch_size": 3, "drop_last": False, "seed": 5, "settings": settings, **options}
    return train_loader(stream, None, options.pop("collate", list), world=world, **options)


def entered(loader: Any, epoch: int, step: int = 0, position: Any = None) -> Any:
    walking.set_epoch(loader, epoch)
    return walking.start_at(loader, step, position)


def left_at(loader: Any, epoch: int, step: int) -> Any:
    """Reads `step` batches and tells the position."""
    batches = entered(loader, epoch)
    for _ in range(step):
        next(batches)
    return walking.position_of(batches, step)


def said(batches: list[Any]) -> list[str]:
    return [str(batch) for batch in batches]


# --- going on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        *((name, 1) for name in ("plain", "stateful", "unfinished", "buffered")),
        *((name, 1) for name in ("datasets", "datasets-batched-map", "datasets-shuffled")),
        *(pytest.param(name, epoch, marks=pytest.mark.slow) for name in PIPELINES for epoch in (0, 1)),
    ],
)
def test_a_stream_goes_on_where_it_was_left(name: str, epoch: int) -> None:
    whole = said(list(entered(loader_of(STREAMS[name]()), epoch)))
    for step in range(len(whole) + 1):
        position = left_at(loader_of(STREAMS[name]()), epoch, step)
        assert said(list(entered(loader_of(STREAMS[name]()), epoch, step, position))) == whole[step:]
        assert said(list(entered(loader_of(STREAMS[name]()), epoch, step))) == whole[step:]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "stateful",
        pytest.param("buffered", marks=pytest.mark.slow),
        pytest.param("datasets-map", marks=pytest.mark.slow),
        pytest.param("datasets-shuffled", marks=pytest.mark.slow),
    ],
)
def test_loading_processes_go_on_where_they_were_left(name: str, workers: int) -> None:
    """Each at its own place, some of them at their end."""
    whole = said(list(entered(loader_of(STREAMS[name](), workers), 1)))
    for step in (2, len(whole) - 2, len(whole)):
        position = left_at(loader_of(STREAMS[name](), workers), 1, step)
        assert said(list(entered(loader_of(STREAMS[name](), workers), 1, step, position))) == whole[step:]


def test_a_resumed_epoch_can_be_left_again_and_later_ones_are_whole() -> None:
    """With loading processes that live on, too."""
    for workers, persistent in ((0, False), (2, True)):
        first = loader_of(Stateful(), workers, persistent=persistent)
        epochs = [said(list(entered(first, epoch))) for epoch in range(3)]
        position = left_at(loader_of(Stateful(), workers), 1, 3)
        again = entered(loader_of(Stateful(), workers), 1, 3, position)
        assert walking.position_of(again, 3) == position
        next(again)
        position = walking.position_of(again, 4)
        last = loader_of(Stateful(), workers, persistent=persistent)
        assert said(list(entered(last, 1, 4, position))) == epochs[1][4:]
        assert said(list(entered(last, 2))) == epochs[2]


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("data", [Numbers(), list(range(9))], ids=["stream", "map"])
def test_processes_that_live_on_draw_a_seed_in_the_first_epoch_alone(data: Any, epoch: int) -> None:
    """A run that begins in a later one draws none, as the run that it goes on from."""
    order = torch.utils.data.SequentialSampler(data) if isinstance(data, list) else None
    settings = LoaderSettings(num_workers=1, persistent_workers=True)
    loader = train_loader(
        data, order, list, batch_size=3, drop_last=False, seed=5, world=ALONE, settings=settings
    )
    before = torch.random.get_rng_state()
    list(entered(loader, epoch))
    assert torch.equal(torch.random.get_rng_state(), before) is (epoch > 0)
    walking.release(loader)


@pytest.mark.parametrize("stream", [Numbers, Stateful])
@pytest.mark.parametrize("size", [20, 24, 27])
def test_ranks_go_on_together(stream: Any, size: int) -> None:
    worlds = [World(rank, rank, 2) for rank in range(2)]
    whole = [list(entered(loader_of(stream(size), world=world), 0)) for world in worlds]
    for step in range(1, min(map(len, whole)) + 1):
        for world, batches in zip(worlds, whole, strict=True):
            position = left_at(loader_of(stream(size), world=world), 0, step)
            rest = entered(loader_of(stream(size), world=world), 0, step, position)
            assert list(rest) == batches[step:]


@pytest.mark.parametrize("stream", [Numbers, Stateful])
def test_another_number_of_ranks_reads_the_same_samples(stream: Any) -> None:
    position = left_at(loader_of(stream(), world=World(0, 0, 2)), 0, 2)
    assert sorted(chain.from_iterable(entered(loader_of(stream()), 0, 4, position))) == list(range(12, 23))
    four = [entered(loader_of(stream(), world=World(rank, rank, 4)), 0, 1, position) for rank in range(4)]
    assert sorted(chain.from_iterable(chain.from_iterable(four))) == list(range(12, 23))


def test_what_is_drawn_does_not_depend_on_what_was_read_before() -> None:
    """In loading processes; also the collator's draws, which differ from rank to rank."""

    def noisy(samples: list[Any]) -> Any:
        return samples, float(torch.rand(()))

    worlds = [World(rank, rank, 2) for rank in range(2)]
    loaders = [loader_of(Noisy(), 1, world, collate=noisy) for world in worlds]
    whole = [list(entered(loader, 0)) for loader in loaders]
    assert whole[0][0][1] != whole[1][0][1]
    position = left_at(loader_of(Noisy(), 1, worlds[1], collate=noisy), 0, 2)
    assert list(entered(loaders[1], 0, 2, position)) == whole[1][2:]
    alone = loader_of(Noisy(), 1, collate=noisy, batch_size=6)  # the noise of a group is everybody's
    assert next(entered(alone, 0))[0] == whole[0][0][0] + whole[1][0][0]


# --- what is read -------------------------------------------------------------------------------------------------


def test_a_stream_with_a_state_reads_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    position = left_at(loader_of(Stateful(10_000)), 0, 3000)
    stream = Stateful(10_000)
    assert next(entered(loader_of(stream), 0, 3000, position)) == [9000, 9001, 9002]
    assert stream.read == 3
    assert not caplog.records


def test_a_replay_makes_no_batches(caplog: pytest.LogCaptureFixture) -> None:
    made = []

    def collate(samples: list[int]) -> list[int]:
        made.append(samples)
        return samples

    stream = Numbers(100)
    assert next(entered(loader_of(stream, collate=collate), 0, 20)) == [60, 61, 62]
    assert stream.read == 63
    assert len(made) == 1
    assert "reading past the 20 batches" in caplog.text


def test_a_long_replay_says_how_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PATIENCE", 0.0)
    next(entered(loader_of(Numbers(100)), 0, 20))
    assert "3 of 60 samples read past, about" in caplog.text
    assert caplog.text.count("read past") == 1  # the next line is due later


class Drawn(Numbers):
    """Numbers whose order hangs on Python's own generator."""

    def __iter__(self) -> Iterator[int]:
        numbers = list(super().__iter__())
        while numbers:
            yield numbers.pop(random.randrange(len(numbers)))


@pytest.mark.parametrize("shared", [False, True])
def test_draws_that_cannot_be_repeated_are_told(shared: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Where the collator draws from the generator that the order hangs on."""

    def collate(samples: list[int]) -> list[int]:
        torch.rand(())
        return samples + [0] * (shared and random.randrange(1, 2))

    random.seed(1)
    whole = list(entered(loader_of(Drawn(), collate=collate), 0))
    random.seed(1)
    batches = entered(loader_of(Drawn(), collate=collate), 0)
    for _ in range(4):
        next(batches)
    left = random_state()
    random.seed(1)
    rest = entered(loader_of(Drawn(), collate=collate), 0, 4)
    walking.warn_of_shared_draws(rest, left)
    restore_random_state(left)
    assert (list(rest) == whole[4:]) is not shared
    assert ("draws from Python's generator" in caplog.text) is shared


def test_a_state_that_costs_much_is_told_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loading process then reads past what came after it; the batches are the same."""

    class Costly(Stateful):
        def state_dict(self) -> dict[str, int]:
            import time

            time.sleep(0.2)
            return super().state_dict()

    whole = list(entered(loader_of(Costly(60), 1), 0))
    position = left_at(loader_of(Costly(60), 1), 0, 10)
    assert position["marks"][0]["state_batches"] == 1
    assert list(entered(loader_of(Costly(60), 1), 0, 10, position)) == whole[10:]


def test_who_reads_ahead_is_replayed() -> None:
    batches = entered(loader_of(Stateful()), 0)
    for _ in range(3):
        next(batches)
    assert walking.position_of(batches, 2) is None
    assert next(entered(loader_of(Stateful()), 0, 2)) == [6, 7, 8]


@pytest.mark.parametrize("name", STREAMS)
def test_states_are_trusted_only_where_they_are_whole(name: str) -> None:
    assert keeps_state(STREAMS[name]()) is (name not in ("plain", "buffered") and "-shuffled" not in name)


# --- other loaders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [Numbers, Stateful])
@pytest.mark.parametrize("kind", ["own", "prepared", "unbatched"])
def test_loaders_of_ones_own_are_entered_too(kind: str, stream: Any) -> None:
    def make(data: Any) -> Any:
        loader: Any = DataLoader(data, batch_size=None if kind == "unbatched" else 3, collate_fn=str)
        ready = prepared(loader, seed=1, world=World(), device=torch.device("cpu"), even=True)
        return ready if kind == "prepared" else loader

    whole = list(entered(make(stream()), 0))
    for step in (1, 5, len(whole)):
        position, data = left_at(make(stream()), 0, step), stream()
        assert list(entered(make(data), 0, step, position)) == whole[step:]
        assert (data.read < len(whole)) or stream is Numbers or kind != "unbatched"


def test_own_loaders_of_streams_are_prepared_already() -> None:
    loader = loader_of(Numbers())
    assert isinstance(loader, StreamLoader)
    assert prepared(loader, seed=1, world=World(), device=torch.device("cpu"), even=True) is loader


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("data", [Numbers, Once, lambda: list(range(23))], ids=["plain", "stateful", "map"])
def test_a_stateful_loader_is_asked_itself(workers: int, data: Any) -> None:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")

    def make() -> Any:
        return torchdata.StatefulDataLoader(data(), batch_size=3, num_workers=workers, collate_fn=str)

    whole = list(entered(make(), 0))
    for step in (2, len(whole)):
        position = left_at(make(), 0, step)
        assert set(position) == {"loader", "has_ended"}
        assert list(entered(make(), 0, step, position)) == whole[step:]
    batches = entered(make(), 0)
    assert len(list(batches)) == len(whole)
    ended = walking.position_of(batches, len(whole))  # it would begin anew
    assert list(entered(make(), 0, len(whole), ended)) == []


def test_only_own_shares_can_be_divided_anew() -> None:
    assert walking.suits_other_processes(loader_of(Numbers()))
    assert walking.suits_other_processes(train_loader(
        [1, 2, 3], torch.utils.data.SequentialSampler([1, 2, 3]), list, batch_size=1, drop_last=False, seed=1,
        world=World(), settings=LoaderSettings(),
    ))  # fmt: skip
    assert not walking.suits_other_processes(DataLoader([1, 2, 3]))


# --- places -------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 8), st.integers(1, 8))
def test_a_place_is_the_same_in_batches_of_another_size(
    batches: int, state_batches: int, before: int, after: int
) -> None:
    place = Place((Mark(batches, False, "state", min(batches, state_batches)),), 0, before)
    moved = place.cut_anew(after)
    if batches * before % after:
        assert moved is None
        return
    assert moved is not None
    mark = moved.marks[0]
    assert mark.batches * after == batches * before
    assert mark.state is None or mark.state_batches * after == min(batches, state_batches) * before
    assert Place.from_dict(moved.to_dict()) == moved


def test_several_readers_cannot_take_turns_otherwise() -> None:
    position = left_at(loader_of(Numbers(), 2), 0, 2)
    with pytest.raises(CheckpointError, match="after every 3 samples.*after 6.*at 3"):
        entered(loader_of(Numbers(), 2, batch_size=6), 0, 1, position)
    with pytest.raises(CheckpointError, match="read by 2 loading processes.*dataloader_num_workers=2"):
        entered(loader_of(Numbers()), 0, 2, position)
