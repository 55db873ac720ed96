"""Reading a stream from any place of an epoch, and knowing at each batch which place that is.

A place is a number of batches and, where the data set can tell it (`state_dict`), the state of the data set there. A
data set that takes it back (`load_state_dict`) is entered at once; any other is read from its beginning, without making
batches of what is done. Where loading processes read the stream, each has a place of its own, which travels with its
batches: they are ahead of the training, and what counts is what the training has had.
"""

from __future__ import annotations

import itertools
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from etude.core.rng import moved, random_state, seed_batch, seed_for
from etude.data.places import Mark, Place, beginning
from etude.data.replay import Replay
from etude.data.shards import RankShard

SHARE_FOR_STATES = 0.05  # of a loading process's time, at most


class Drawn(NamedTuple):
    """What a loading process sends: a batch, and where it stands after it."""

    batch: Any
    reader: int
    has_ended: bool = False
    state: bytes | None = None
    is_filler: bool = False


class _Filler:
    """Samples of a batch that only keeps the turn of a loading process."""


class TrackedStream(IterableDataset[Any]):
    """A stream as one reader reads it, from a place on.

    Args:
        dataset: the stream.
        size: samples of a batch.
        place: where to begin; None: at the beginning.
        seed: seed of what a loading process draws, and the rank that its collator draws for; None: it is not seeded.

    Attributes:
        drawn_from: generators of this process that the stream has drawn from while it was read past what is done.
    """

    def __init__(self, dataset: Any, size: int, place: Place | None, seed: tuple[int, int] | None) -> None:
        self._dataset = dataset
        self._size = size
        self._place = place
        self._seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64)
        if seed is not None:
            self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # loading processes may live on
        self._passes = 0
        self._reader = 0
        self._number = 0
        self._state_due = 0.0
        self._keeps_state = keeps_state(dataset)
        self._has_ended = False
        self.drawn_from: list[str] = []

    @property
    def has_ended(self) -> bool:
        """Whether nothing comes after the last batch."""
        return self._has_ended or (isinstance(self._dataset, RankShard) and self._dataset.has_ended)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that comes."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        self._reader = 0 if worker is None else worker.id
        if worker is not None and self._passes and hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(int(self._epoch))
        self._passes += 1
        mark = Mark() if self._place is None else self._place.marks[self._reader]
        self._has_ended = mark.has_ended
        if mark.has_ended:
            return iter(())
        if mark.state is not None:
            self._dataset.load_state_dict(mark.state)
        self._draw_as(self._reader)
        samples = iter(self._dataset)
        self._read_past(samples, mark)
        batches = self._batches(samples, mark.batches)
        return itertools.chain(self._fillers(), itertools.chain.from_iterable(batches))

    def _read_past(self, samples: Iterator[Any], mark: Mark) -> None:
        numbers = range(mark.state_batches, mark.batches)
        replay = Replay(len(numbers) * self._size, "samples", told=self._reader == 0)
        before = random_state() if numbers else {}
        for number in numbers:
            self._draw_as(self._reader, number)
            if replay.read_past(samples, self._size) < self._size:
                break
        if numbers and self._seed is None:
            self.drawn_from = moved(before, random_state())

    def _fillers(self) -> Iterator[Any]:
        """Loading processes begin in their order: those whose turn is over send a batch of nothing first."""
        has_had_turn = self._place is not None and self._reader < self._place.turn
        return iter([_Filler] * self._size if has_had_turn else [])

    def _batches(self, samples: Iterator[Any], first: int) -> Iterator[Iterator[Any]]:
        """The samples of one batch after the other; nothing is done for each sample."""
        nothing = object()
        for self._number in itertools.count(first):
            self._draw_as(self._reader, self._number)
            sample = next(samples, nothing)
            if sample is nothing:
                self._has_ended = True
                return
            yield itertools.chain((sample,), itertools.islice(samples, self._size - 1))

    def _draw_as(self, *position: int) -> None:
        """Seeds a loading process for one place of the run, the same whatever it has read before."""
        if self._seed is not None:
            seed_batch(seed_for(self._seed[0], int(self._epoch), *position))

    def collated(self, samples: Any, collate: Callable[[Any], Any]) -> Drawn:
        """A batch of these samples, the last ones that this loading process has read, and where it stands now."""
        if samples[0] is _Filler:
            return Drawn(None, self._reader, is_filler=True)
        if self._seed is not None:  # every process reads the whole stream, but collates only its own share
            self._draw_as(self._reader, self._number, 1 + self._seed[1])
        return Drawn(collate(samples), self._reader, self.has_ended, self._state_if_due())

    def _state_if_due(self) -> bytes | None:
        """The state now and then: often where it is cheap, seldom where it is large. The rest is read past."""
        began = time.perf_counter()
        if began < self._state_due:
            return None
        state = self.state()
        packed = None if state is None else pickle.dumps(state)
        done = time.perf_counter()
        self._state_due = done + (done - began) / SHARE_FOR_STATES
        return packed

    def state(self) -> Any:
        """State of the data set as it is now; None where it has none."""
        if not self._keeps_state:
            return None
        try:
            return self._dataset.state_dict()
        except NotImplementedError:  # a method that is there for subclasses to fill in
            self._keeps_state = False
            return None


class _TrackingCollator:
    """The collator of a loading process, which sends along where it stands."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self._collate = collate

    def __call__(self, samples: Any) -> Drawn:
        worker = get_worker_info()
        assert worker is not None
        stream: Any = worker.dataset
        drawn: Drawn = stream.collated(samples, self._collate)
        return drawn


class StreamEpoch(Iterator[Any]):
    """The batches of one epoch of a stream from a place on.

    Args:
        loader: reads the stream.
        stream: what it reads.
        place: where it begins.
    """

    def __init__(self, loader: DataLoader[Any], stream: TrackedStream, place: Place) -> None:
        self._stream = stream
        self._marks = list(place.marks)
        self._turn = place.turn
        self._group = place.group
        self._began = sum(mark.batches for mark in place.marks)
        self._packed: dict[int, bytes] = {}  # states as they came
        self._alone = loader.num_workers == 0
        self._batches = iter(loader)

    def __next__(self) -> Any:
        batch = next(self._batches)
        if self._alone:
            self._marks[0] = Mark(self._marks[0].batches + 1)
            return batch
        while batch.is_filler:
            batch = next(self._batches)
        mark = self._marks[batch.reader]
        mark = replace(mark, batches=mark.batches + 1, has_ended=batch.has_ended)
        if batch.state is not None:
            self._packed[batch.reader] = batch.state
            mark = replace(mark, state=None, state_batches=mark.batches)
        self._marks[batch.reader] = mark
        self._turn = (batch.reader + 1) % len(self._marks)
        return batch.batch

    @property
    def drawn_from(self) -> list[str]:
        """Generators of this process that the stream has drawn from while it was read past what is done."""
        return self._stream.drawn_from

    def position(self, step: int) -> dict[str, Any] | None:
        """Where the epoch can be entered again, as plain values.

        Args:
            step: batches that the training has had; None is returned where more were drawn, as the place is not known
                then.
        """
        if sum(mark.batches for mark in self._marks) != step:
            return None
        marks = dict(enumerate(self._marks))
        if self._alone and step != self._began:
            state = self._stream.state()
            marks[0] = Mark(step, self._stream.has_ended, state, 0 if state is None else step)
        for reader, packed in self._packed.items():  # made by loading processes of this run
            marks[reader] = replace(marks[reader], state=pickle.loads(packed))
        return Place(tuple(marks.values()), self._turn, self._group).to_dict()


class StreamLoader(DataLoader[Any]):
    """A loader of a stream that can be entered at any place.

    Args:
        dataset: the stream.
        seed: seed of what loading processes draw. It depends on the place in the run, and not on when they started.
        rank: this process.
        options: those of DataLoader.
    """

    def __init__(self, dataset: Any, *, seed: int, rank: int, **options: Any) -> None:
        super().__init__(dataset, **options)
        self._draws = (seed, rank)
        self._coming_epoch = 0
        self._lasting: tuple[DataLoader[Any], TrackedStream] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that comes."""
        self._coming_epoch = epoch

    def release(self) -> None:
        """Ends loading processes that live on."""
        self._lasting = None

    def __iter__(self) -> Any:
        return self.enter(None)

    def enter(self, place: Place | None) -> StreamEpoch:
        """The epoch from a place on; None: from its beginning."""
        if place is not None or not self.persistent_workers:
            loader, stream = tracked(self, place, self._draws)
        else:
            self._lasting = self._lasting or tracked(self, None, self._draws, persistent=True)
            loader, stream = self._lasting
        stream.set_epoch(self._coming_epoch)
        return StreamEpoch(loader, stream, place or beginning(self))


def tracked(
    loader: DataLoader[Any], place: Place | None, draws: tuple[int, int] | None, persistent: bool = False
) -> tuple[DataLoader[Any], TrackedStream]:
    """A loader like `loader`, of a stream that knows where it stands."""
    in_processes = loader.num_workers > 0
    stream = TrackedStream(loader.dataset, loader.batch_size or 1, place, draws if in_processes else None)
    options = options_of(loader) | {"persistent_workers": persistent}
    if in_processes:
        options["collate_fn"] = _TrackingCollator(loader.collate_fn)
    copy = DataLoader(stream, batch_size=loader.batch_size, drop_last=loader.drop_last, **options)
    return copy, stream


def options_of(loader: DataLoader[Any]) -> dict[str, Any]:
    """What a loader is made of, besides the data set and the order of its batches."""
    return {name: getattr(loader, name) for name in _OPTIONS}


_OPTIONS = (
    "collate_fn",
    "num_workers",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "in_order",
)


def keeps_state(dataset: Any) -> bool:
    """Whether a stream tells its state, takes it back, and then goes on exactly as it would have."""
    stream = dataset.stream if isinstance(dataset, RankShard) else dataset
    methods = (getattr(stream, name, None) for name in ("state_dict", "load_state_dict"))
    return all(map(callable, methods)) and not _has_shuffle_buffer(getattr(stream, "_ex_iterable", None))


def _has_shuffle_buffer(node: Any) -> bool:
    """Whether a pipeline of the package datasets shuffles in a buffer, whose content is not in its state."""
    if node is None:
        return False
    if type(node).__name__ == "BufferShuffledExamplesIterable":
        return True
    sources = [getattr(node, "ex_iterable", None), *(getattr(node, "ex_iterables", None) or [])]
    return any(map(_has_shuffle_buffer, sources))
