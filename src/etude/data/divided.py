"""Samplers and streams that divide the data between processes themselves, for loops of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import cycle, islice
from typing import Any

import torch
from torch.utils.data import IterableDataset, Sampler
from torch.utils.data.distributed import DistributedSampler


class DistributedSamplerWithLoop(DistributedSampler[Any]):
    """PyTorch's `DistributedSampler`, with samples repeated until they fill whole batches.

    Args:
        dataset: the data set.
        batch_size: samples of one batch of one process.
        kwargs: those of `DistributedSampler`.
    """

    def __init__(self, dataset: Any, batch_size: int, **kwargs: Any) -> None:
        super().__init__(dataset, **kwargs)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[Any]:
        own = list(super().__iter__())
        # PyTorch has repeated the first sample of these processes already, at the end of the last ones
        used = 1 if self.rank < len(self.dataset) % self.num_replicas else 0  # type: ignore[arg-type]
        return iter(own + list(islice(cycle(own), used, used + -len(own) % self.batch_size)))


class ShardSampler(Sampler[int]):
    """One process's share of a data set in its order, batch by batch in turn; samples are repeated to fill the last.

    Args:
        dataset: the data set; only its length is used.
        batch_size: samples of one batch of one process.
        drop_last: leave out the samples that do not fill a batch of every process.
        num_processes, process_index: the place of this process.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int = 1,
        drop_last: bool = False,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.num_processes = num_processes
        self.process_index = process_index
        self.total_batch_size = group = batch_size * num_processes
        size = len(dataset)
        self.total_num_samples = (size // group if drop_last else -(-size // group)) * group

    def __iter__(self) -> Iterator[int]:
        size, batch = len(self.dataset), self.batch_size
        starts = range(batch * self.process_index, self.total_num_samples, self.total_batch_size)
        return (i % size for start in starts for i in range(start, start + batch))

    def __len__(self) -> int:
        return self.total_num_samples // self.num_processes


class IterableDatasetShard(IterableDataset[Any]):
    """One process's share of a stream, batch by batch in turn; samples are repeated to fill the last batches.

    A stream that draws random numbers must draw the same ones on every process: from a `torch.Generator` in its
    attribute `generator`, which is seeded here for each epoch, or by a `set_epoch` of its own.

    Args:
        dataset: the stream.
        batch_size: samples of one batch of one process.
        drop_last: leave out the samples that do not fill a batch of every process.
        num_processes, process_index: the place of this process.
        seed: the generator is seeded with `seed + epoch`.

    Attributes:
        num_examples: samples read from the stream in this iteration.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        drop_last: bool = False,
        num_processes: int = 1,
        process_index: int = 0,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.num_processes = num_processes
        self.process_index = process_index
        self.seed = seed
        self.epoch = 0
        self.num_examples = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, here and in the stream where it takes one."""
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        group = self.batch_size * self.num_processes
        size = len(self.dataset)
        return (size // group if self.drop_last else -(-size // group)) * self.batch_size

    def __iter__(self) -> Iterator[Any]:
        generator = getattr(self.dataset, "generator", None)
        if not hasattr(self.dataset, "set_epoch") and isinstance(generator, torch.Generator):
            generator.manual_seed(self.seed + self.epoch)
        self.num_examples = 0
        group = self.batch_size * self.num_processes
        begin = self.process_index * self.batch_size
        first: list[Any] = []
        stream = iter(self.dataset)
        while samples := list(islice(stream, group)):
            self.num_examples += len(samples)
            first = first or samples
            if len(samples) < group:
                if self.drop_last:
                    return
                samples += islice(cycle(first), group - len(samples))
            yield from samples[begin : begin + self.batch_size]
