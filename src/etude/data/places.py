"""Where the readers of a stream stand in an epoch, in terms that another run understands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from torch.utils.data import DataLoader

from etude.data.divided import IterableDatasetShard
from etude.data.shards import RankShard


@dataclass(frozen=True)
class Mark:
    """Where one reader of a stream stands in an epoch.

    Attributes:
        batches: batches that the training has had from it.
        has_ended: whether its part of the stream is at the end.
        state: state of the data set after `state_batches` of them; None where that is not known.
    """

    batches: int = 0
    has_ended: bool = False
    state: Any = None
    state_batches: int = 0


@dataclass(frozen=True)
class Place:
    """Where all readers of a stream stand in an epoch.

    Attributes:
        marks: of each reader: each loading process, or the training process itself.
        turn: the reader whose batch is next.
        group: samples of all processes in one batch.
    """

    marks: tuple[Mark, ...]
    turn: int
    group: int

    def to_dict(self) -> dict[str, Any]:
        """Everything above as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Place:
        """The place that `to_dict` has written down."""
        return cls(tuple(Mark(**mark) for mark in values["marks"]), values["turn"], values["group"])

    def cut_anew(self, group: int) -> Place | None:
        """The same place in batches of `group` samples; None where there is no such place.

        Several readers take turns batch by batch, so that their order depends on the size of a batch.
        """
        if group == self.group:
            return self
        if len(self.marks) > 1:
            return None
        mark = self.marks[0]
        counts = [batches * self.group for batches in (mark.batches, mark.state_batches)]
        if counts[0] % group:
            return None
        if counts[1] % group:
            mark, counts[1] = replace(mark, state=None), 0
        moved = replace(mark, batches=counts[0] // group, state_batches=counts[1] // group)
        return Place((moved,), self.turn, group)


def beginning(loader: DataLoader[Any]) -> Place:
    """The place where an epoch begins."""
    readers = max(1, loader.num_workers)
    return Place((Mark(),) * readers, 0, group_of(loader))


def after(loader: DataLoader[Any], step: int) -> Place | None:
    """The place after that many batches; None where it is not known how the readers took turns."""
    return replace(beginning(loader), marks=(Mark(step),)) if loader.num_workers <= 1 else None


def group_of(loader: DataLoader[Any]) -> int:
    """Samples of the stream in one batch of all processes."""
    dataset: Any = loader.dataset
    divided = isinstance(dataset, (RankShard, IterableDatasetShard))
    return (loader.batch_size or 1) * (dataset.num_processes if divided else 1)
