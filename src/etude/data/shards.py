"""Data sets as loading processes and ranks see them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from etude.core.rng import seed_batch
from etude.data.samplers import SeededBatch


class SeededDataset(Dataset[Any]):
    """A map-style data set that seeds the loading process for each batch before it reads its samples."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitems__(self, indices: list[int]) -> list[Any]:
        if isinstance(indices, SeededBatch):
            seed_batch(indices.seed)
        if hasattr(self._dataset, "__getitems__"):
            return list(self._dataset.__getitems__(list(indices)))
        return [self._dataset[index] for index in indices]

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        if (
            name.startswith("__") or name == "_dataset"
        ):  # copying and pickling look these up before they exist
            raise AttributeError(name)
        return getattr(self._dataset, name)


class RankShard(IterableDataset[Any]):
    """The part of a stream that one process trains on.

    Every process reads the stream and keeps its slice of each `batch_size * world_size` samples; the samples left over
    at the end are divided as evenly as they can be.

    Attributes:
        stream: what all processes read.
        num_processes: number of processes.
        has_ended: whether all of the stream has been read in this iteration.
    """

    def __init__(self, dataset: Any, batch_size: int, drop_last: bool, rank: int, world_size: int) -> None:
        self.stream = dataset
        self.num_processes = world_size
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._rank = rank
        self.has_ended = False

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on to the stream, where it takes one."""
        if hasattr(self.stream, "set_epoch"):
            self.stream.set_epoch(epoch)

    def state_dict(self) -> Any:
        """The state of the stream; between two batches of this process it is that of all others, too."""
        return self.stream.state_dict()

    def load_state_dict(self, state_dict: Any) -> None:
        """Lets the next iteration go on from there."""
        self.stream.load_state_dict(state_dict)

    def __len__(self) -> int:
        total, group = len(self.stream), self._batch_size * self.num_processes
        rest = 0 if self._drop_last else total % group
        # the number of this process's batches decides how long a loader is: that of the fullest process
        return total // group * self._batch_size + -(-rest // self.num_processes)

    def __iter__(self) -> Iterator[Any]:
        stream = iter(self.stream)
        group = self._batch_size * self.num_processes
        self.has_ended = False
        while samples := list(islice(stream, group)):
            self.has_ended = len(samples) < group
            if self.has_ended and self._drop_last:
                return
            share = len(samples) / self.num_processes
            yield from samples[round(self._rank * share) : round((self._rank + 1) * share)]
