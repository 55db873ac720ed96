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
    """

    def __init__(self, dataset: Any, batch_size: int, drop_last: bool, rank: int, world_size: int) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on to the stream, where it takes one."""
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(epoch)

    def __len__(self) -> int:
        total, group = len(self._dataset), self._batch_size * self._world_size
        rest = 0 if self._drop_last else total % group
        # the number of this process's batches decides how long a loader is: that of the fullest process
        return total // group * self._batch_size + -(-rest // self._world_size)

    def __iter__(self) -> Iterator[Any]:
        stream = iter(self._dataset)
        group = self._batch_size * self._world_size
        while samples := list(islice(stream, group)):
            if len(samples) < group and self._drop_last:
                return
            share = len(samples) / self._world_size
            yield from samples[round(self._rank * share) : round((self._rank + 1) * share)]
