"""The order of samples, and how processes cut their batches out of it.

The global order of an epoch is a function of the seed and the epoch alone: it does not know how many processes there
are, nor where a run was interrupted. A process reads its own slices of it, from any position, without walking there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from etude.core.rng import seed_for


class EpochSampler(RandomSampler):
    """A new permutation of the data set for every epoch, which is a function of the seed and the epoch.

    Args:
        data_source: the data set; only its length is used.
        seed: the order of epoch e is the permutation drawn from a generator seeded with `seed + e`, which is the rule
            of the reference.
    """

    def __init__(self, data_source: Sized, seed: int) -> None:
        super().__init__(data_source)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def order(self) -> torch.Tensor:
        """Indices of the whole epoch, shape [samples]."""
        return torch.randperm(
            len(self.data_source), generator=torch.Generator().manual_seed(self.seed + self.epoch)
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())


class SeededBatch(list[int]):
    """Indices of a batch, with the seed that a loading process sets before it reads them.

    What a worker draws at random (augmentation, masking) then depends on the batch's place in the run, and not on
    when the worker was started.
    """

    seed: int = 0


class GlobalBatchSampler(Sampler[list[int]]):
    """The batches of one process, cut out of the global order.

    Each step takes the next `batch_size * world_size` samples of the order; every process gets an equal, contiguous
    slice. The samples left over at the end are divided as evenly as they can be: nothing is repeated, and a process
    may get nothing (then it yields one batch less than `len`).

    Args:
        sampler: the global order, the same on every process.
        batch_size: samples of one process in one step.
        drop_last: leave out the left-over samples.
        rank, world_size: the place of this process.
        seed: where given, batches carry a seed of their own (for loading processes).
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool,
        rank: int = 0,
        world_size: int = 1,
        seed: int | None = None,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.epoch = 0
        self._start = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, here and in the order, and goes back to its start."""
        self.epoch = epoch
        self._start = 0
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def seek(self, step: int) -> None:
        """Lets iterations of this epoch begin at that step."""
        self._start = step

    def __len__(self) -> int:
        group = self.batch_size * self.world_size
        size = len(self.sampler)  # type: ignore[arg-type]
        return size // group if self.drop_last else -(-size // group)

    def __iter__(self) -> Iterator[list[int]]:
        for step, samples in enumerate(self._groups(self._start), start=self._start):
            mine = self._slice(samples)
            if mine:
                yield self._seeded(mine, step)

    def indices(self, start: int, stop: int) -> list[int]:
        """Samples of this process in the steps from `start` to `stop` of the current epoch."""
        groups = islice(self._groups(start), stop - start)
        return [index for samples in groups for index in self._slice(samples)]

    def _groups(self, start: int) -> Iterator[list[int]]:
        """The samples of all processes, step by step."""
        group = self.batch_size * self.world_size
        order = self._whole_order()
        if order is not None:
            chunks = _chunks(order[start * group :], group)
        else:  # a user's own sampler can only be walked
            walk = islice(iter(self.sampler), start * group, None)
            chunks = iter(lambda: list(islice(walk, group)), [])
        for samples in chunks:
            if len(samples) == group or not self.drop_last:
                yield samples

    def _whole_order(self) -> torch.Tensor | None:
        if isinstance(self.sampler, EpochSampler):
            return self.sampler.order()
        return torch.arange(len(self.sampler)) if isinstance(self.sampler, SequentialSampler) else None

    def _slice(self, samples: list[int]) -> list[int]:
        share = len(samples) / self.world_size
        return samples[round(self.rank * share) : round((self.rank + 1) * share)]

    def _seeded(self, samples: list[int], step: int) -> list[int]:
        if self.seed is None:
            return samples
        batch = SeededBatch(samples)
        batch.seed = seed_for(self.seed, self.epoch, step, self.rank)
        return batch


def _chunks(order: torch.Tensor, size: int) -> Iterator[list[int]]:
    """`order` in lists of `size`; turned into Python numbers many lists at a time, which is quicker."""
    for block in torch.split(order, 64 * size):
        numbers = block.tolist()
        for start in range(0, len(numbers), size):
            yield numbers[start : start + size]


class EveryNth(Sampler[list[int]]):
    """Every `world_size`-th batch of a batch sampler: evaluation on several processes, without repeating a sample."""

    def __init__(self, batches: Sampler[list[int]], rank: int, world_size: int) -> None:
        self.batches = batches
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[int]]:
        return islice(iter(self.batches), self.rank, None, self.world_size)

    def __len__(self) -> int:
        total = len(self.batches)  # type: ignore[arg-type]
        return max(0, -(-(total - self.rank) // self.world_size))


class Skipping(Sampler[list[int]]):
    """A batch sampler without its first batches, for one resumed epoch of a user's own loader."""

    def __init__(self, batches: Any, skip: int) -> None:
        self.batches = batches
        self.skip = skip

    def __iter__(self) -> Iterator[list[int]]:
        return islice(iter(self.batches), self.skip, None)

    def __len__(self) -> int:
        return max(0, len(self.batches) - self.skip)
