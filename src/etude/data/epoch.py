"""Walking a loader through an epoch, from any position."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from etude.core.rng import moved, random_state
from etude.data.loader import is_iterable
from etude.data.places import Place, after, beginning, group_of
from etude.data.prepared import PreparedLoader
from etude.data.replay import Replay
from etude.data.samplers import Skipping, StepBatches
from etude.data.streams import StreamEpoch, StreamLoader, options_of, tracked
from etude.errors import CheckpointError

logger = logging.getLogger(__name__)


def set_epoch(loader: Any, epoch: int) -> None:
    """Tells the loader, its samplers and its data set which epoch comes, where they want to know."""
    batches = getattr(loader, "batch_sampler", None)
    parts = [loader, batches, getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None)]
    parts += [getattr(loader, "sampler", None), getattr(loader, "dataset", None)]
    told: list[Any] = []
    for part in parts:
        if part is not None and hasattr(part, "set_epoch") and not any(part is other for other in told):
            part.set_epoch(epoch)
            told.append(part)
    if epoch > 0 and getattr(loader, "persistent_workers", False) and loader.generator is None:
        # Processes that live on draw their seed when they start. A run that begins here must not draw one more.
        loader.generator = torch.Generator()


def start_at(loader: Any, step: int, position: dict[str, Any] | None = None) -> Iterator[Any]:
    """The batches of the loader's current epoch from `step` on.

    Map-style data is entered there at once, without reading what is done; so is a stream, or a loader, that tells its
    state. Anything else has to be read and thrown away, which is said.

    Args:
        position: what `position_of` has told at that step, where it is known.
    """
    if _is_tracked(loader):
        return _enter_stream(loader, step, position)
    if hasattr(loader, "batches_from"):  # a prepared loader of the user's
        return iter(loader.batches_from(step))
    if _tells_state(loader):
        return StatefulEpoch(loader, step, position)
    if step == 0:
        return iter(loader)
    batches = getattr(loader, "batch_sampler", None)
    if isinstance(batches, StepBatches):
        batches.seek(step)
        return iter(loader)
    if type(loader) is DataLoader and batches is not None and not is_iterable(loader.dataset):
        skipping = Skipping(batches, step)
        return iter(DataLoader(loader.dataset, batch_sampler=skipping, **options_of(loader)))
    return _read_past(iter(loader), step)


def release(loader: Any) -> None:
    """Ends loading processes that live on, now and not when the loader happens to be collected, which takes seconds."""
    if isinstance(loader, StreamLoader):
        loader.release()
    elif isinstance(loader, DataLoader):
        loader._iterator = None


def position_of(batches: Any, step: int) -> dict[str, Any] | None:
    """Where an epoch stands after `step` batches, as plain values; None where the number says it all.

    Args:
        batches: what `start_at` has given.
    """
    return batches.position(step) if isinstance(batches, (StreamEpoch, StatefulEpoch)) else None


def warn_of_shared_draws(batches: Any, expected: dict[str, Any]) -> None:
    """Says where a stream that was read again may have drawn something else than it drew before.

    Its draws can be repeated if nothing else has drawn from the same generators: they are then where they were.

    Args:
        batches: what `start_at` has given.
        expected: random state of the run that is resumed.
    """
    drawn_from = batches.drawn_from if isinstance(batches, StreamEpoch) else []
    shared = [name for name in moved(expected, random_state()) if name in drawn_from]
    if shared:
        logger.warning(
            "Resuming: the stream draws from %s generator, and so does something else (dropout, the collator). If the "
            "order of its samples hangs on those draws, it is another one now: give the stream a generator of its own, "
            "or a `state_dict` and `load_state_dict`.",
            " and ".join(shared),
        )


def suits_other_processes(loader: Any) -> bool:
    """Whether each process's share of the data is etude's to cut, so that another number of them reads the same."""
    own = isinstance(getattr(loader, "batch_sampler", None), StepBatches)
    return own or isinstance(loader, (StreamLoader, PreparedLoader))


class StatefulEpoch(Iterator[Any]):
    """The batches of one epoch of a loader that tells its state, as torchdata's `StatefulDataLoader`.

    Args:
        loader: the loader.
        step: where the epoch is entered.
        position: what an earlier run has told at that step.
    """

    def __init__(self, loader: Any, step: int, position: dict[str, Any] | None) -> None:
        position = position if position is not None and "loader" in position else None
        self._loader = loader
        self._given = step
        self._has_ended = position is not None and bool(position["has_ended"])
        if position is not None:
            loader.load_state_dict(position["loader"])
        if self._has_ended:
            self._batches: Iterator[Any] = iter(())
        else:
            self._batches = iter(loader) if position is not None else _read_past(iter(loader), step)

    def __next__(self) -> Any:
        try:
            batch = next(self._batches)
        except StopIteration:
            self._has_ended = True
            raise
        self._given += 1
        return batch

    def position(self, step: int) -> dict[str, Any] | None:
        """The loader's state; None where it is ahead of the training."""
        if self._given != step:
            return None
        return {"loader": self._loader.state_dict(), "has_ended": self._has_ended}


def _tells_state(loader: Any) -> bool:
    return all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict"))


def _is_tracked(loader: Any) -> bool:
    """Whether the loader reads a stream whose readers can be followed."""
    if type(loader) not in (DataLoader, PreparedLoader) or not is_iterable(loader.dataset):
        return isinstance(loader, StreamLoader)
    return bool(
        loader.num_workers == 0
    )  # the loading processes of others draw as their owner has arranged it


def _enter_stream(loader: DataLoader[Any], step: int, position: dict[str, Any] | None) -> Iterator[Any]:
    place = _place(loader, step, position)
    if place is not None and any(mark.state is None and mark.batches for mark in place.marks):
        _say_past(step)
    if isinstance(loader, StreamLoader):
        if place is None:
            return _read_past(loader.enter(None), step)
        return loader.enter(place if step else None)
    assert place is not None
    inner, stream = tracked(loader, place, None)
    return StreamEpoch(inner, stream, place)


def _place(loader: DataLoader[Any], step: int, position: dict[str, Any] | None) -> Place | None:
    """Where the readers of a stream stood after `step` batches; None where that is not known.

    Raises:
        CheckpointError: they cannot stand there, as there are more or fewer of them, or as batches differ in size.
    """
    if step == 0:
        return beginning(loader)
    if position is None or "marks" not in position:
        return after(loader, step)
    place = Place.from_dict(position)
    readers = max(1, loader.num_workers)
    if len(place.marks) != readers:
        raise CheckpointError(
            f"The stream was read by {len(place.marks)} loading processes, this run has {loader.num_workers}, which "
            f"give another order of samples: set `dataloader_num_workers={len(place.marks)}`."
        )
    group = group_of(loader)
    moved = place.cut_anew(group)
    if moved is None and readers > 1:
        raise CheckpointError(
            f"The {readers} loading processes took turns after every {place.group} samples of the stream, in this run "
            f"after {group}, which gives another order: keep `per_device_train_batch_size` times the number of "
            f"processes at {place.group}, or start from the weights alone."
        )
    known = moved is not None and sum(mark.batches for mark in moved.marks) == step
    return moved if known else after(loader, step)


def _read_past(batches: Iterator[Any], step: int) -> Iterator[Any]:
    """`batches` without the first ones."""
    if step:
        _say_past(step)
        replay = Replay(step, "batches")
        while step and replay.read_past(batches, 1):
            step -= 1
    return batches


def _say_past(step: int) -> None:
    logger.warning(
        "Resuming: reading past the %d batches that are done, as the data cannot be entered there.", step
    )


def samples_of(loader: Any, start: int, stop: int) -> list[int] | None:
    """Data set indices that this process reads in those steps of the current epoch, where they can be told."""
    batches = getattr(loader, "batch_sampler", None)
    return batches.indices(start, stop) if isinstance(batches, StepBatches) else None
