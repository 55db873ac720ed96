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
from etude.data.order import permuted

BLOCK = 2**16  # positions of an order that are computed at a time


class EpochOrder:
    """An order of samples that is a function of the epoch: mixed into a sampler, it makes any position reachable."""

    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def order(self) -> torch.Tensor:
        """Indices of the whole epoch, shape [samples]."""
        raise NotImplementedError

    def blocks(self, start: int, size: int) -> Iterator[torch.Tensor]:
        """The indices of the epoch from position `start` on, `size` at a time."""
        return iter(torch.split(self.order()[start:], size))

    def __iter__(self) -> Iterator[int]:
        for block in self.blocks(0, BLOCK):
            yield from block.tolist()


class EpochSampler(EpochOrder, RandomSampler):
    """A new permutation of the data set for every epoch, which is a function of the seed and the epoch.

    Args:
        data_source: the data set; only its length is used.
        seed: the order of epoch e is the permutation drawn from a generator seeded with `seed + e`, which is the rule
            of the reference; that of a data set of more than `LARGEST_DRAWN` samples is computed where it is read.
    """

    LARGEST_DRAWN = 2**26  # samples whose permutation takes half a gigabyte

    def __init__(self, data_source: Sized, seed: int) -> None:
        super().__init__(data_source)
        self.seed = seed

    def blocks(self, start: int, size: int) -> Iterator[torch.Tensor]:
        """The indices of the epoch from position `start` on, `size` at a time."""
        samples = len(self.data_source)
        if samples <= self.LARGEST_DRAWN:
            yield from super().blocks(start, size)
            return
        for begin in range(start, samples, size):
            yield torch.from_numpy(permuted(samples, self.seed, self.epoch, begin, begin + size))

    def order(self) -> torch.Tensor:
        """Indices of the whole epoch, shape [samples]."""
        return torch.randperm(
            len(self.data_source), generator=torch.Generator().manual_seed(self.seed + self.epoch)
        )


class SeededBatch(list[int]):
    """Indices of a batch, with the seed that a loading process sets before it reads them.

    What a worker draws at random (augmentation, masking) then depends on the batch's place in the run, and not on
    when the worker was started.
    """

    seed: int = 0


class StepBatches(Sampler[list[int]]):
    """The batches of one process, step by step, from any step on.

    Subclasses say in `batches_from` what they are. A process that has none in the last step gets one batch less than
    `len`.

    Attributes:
        rank: the process.
        epoch: the epoch that iterations give.
        batch_seed: where given, batches carry a seed of their own (for loading processes).
    """

    def __init__(self, rank: int = 0, batch_seed: int | None = None) -> None:
        self.rank = rank
        self.epoch = 0
        self.batch_seed = batch_seed
        self._start = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, and goes back to its start."""
        self.epoch = epoch
        self._start = 0

    def seek(self, step: int) -> None:
        """Lets iterations of this epoch begin at that step."""
        self._start = step

    def batches_from(self, step: int) -> Iterator[list[int]]:
        """The batch of this process in each step of the epoch from `step` on; empty where it has none."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[list[int]]:
        for step, samples in enumerate(self.batches_from(self._start), start=self._start):
            if samples:
                yield self._seeded(samples, step)

    def indices(self, start: int, stop: int) -> list[int]:
        """Samples of this process in the steps from `start` to `stop` of the current epoch."""
        steps = islice(self.batches_from(start), stop - start)
        return [index for samples in steps for index in samples]

    def _seeded(self, samples: list[int], step: int) -> list[int]:
        if self.batch_seed is None:
            return samples
        batch = SeededBatch(samples)
        batch.seed = seed_for(self.batch_seed, self.epoch, step, self.rank)
        return batch


class GlobalBatchSampler(StepBatches):
    """The batches of one process, cut out of the global order.

    Each step takes the next `batch_size * world_size` samples of the order; every process gets an equal, contiguous
    slice. The samples left over at the end are divided as evenly as they can be: nothing is repeated, and a process
    may get nothing.

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
        super().__init__(rank, seed)
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, here and in the order, and goes back to its start."""
        super().set_epoch(epoch)
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        group = self.batch_size * self.world_size
        size = len(self.sampler)  # type: ignore[arg-type]
        return size // group if self.drop_last else -(-size // group)

    def batches_from(self, step: int) -> Iterator[list[int]]:
        for samples in self._groups(step):
            share = len(samples) / self.world_size
            yield samples[round(self.rank * share) : round((self.rank + 1) * share)]

    def _groups(self, start: int) -> Iterator[list[int]]:
        """The samples of all processes, step by step."""
        group = self.batch_size * self.world_size
        for samples in chunks_from(self.sampler, start * group, group):
            if len(samples) == group or not self.drop_last:
                yield samples


class EvaluationBatches(StepBatches):
    """The batches of one process in an evaluation: of those that a single process would get, every `world_size`-th.

    Args:
        sampler: the order of the samples, the same on every process.
        batch_size: samples of one batch.
        rank, world_size: the place of this process.
        seed: where given, batches carry a seed of their own (for loading processes).
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int | None = None,
    ) -> None:
        super().__init__(rank, seed)
        self.sampler = sampler
        self.batch_size = batch_size
        self.world_size = world_size

    def __len__(self) -> int:
        total = -(-len(self.sampler) // self.batch_size)  # type: ignore[arg-type]
        return max(0, -(-(total - self.rank) // self.world_size))

    def batches_from(self, step: int) -> Iterator[list[int]]:
        first = self.rank + step * self.world_size
        return islice(
            chunks_from(self.sampler, first * self.batch_size, self.batch_size), 0, None, self.world_size
        )


def chunks_from(sampler: Sampler[int], start: int, size: int) -> Iterator[list[int]]:
    """The indices that `sampler` gives, from position `start` on, in lists of `size`."""
    blocks = _blocks(sampler, start, 64 * size)
    if blocks is not None:
        return _chunks(blocks, size)
    walk = islice(iter(sampler), start, None)  # a user's own sampler can only be walked
    return iter(lambda: list(islice(walk, size)), [])


def _blocks(sampler: Sampler[int], start: int, size: int) -> Iterator[torch.Tensor] | None:
    if isinstance(sampler, EpochOrder):
        return sampler.blocks(start, size)
    if type(sampler) is not SequentialSampler:
        return None
    samples = len(sampler)
    return (torch.arange(i, min(i + size, samples)) for i in range(start, samples, size))


def _chunks(blocks: Iterator[torch.Tensor], size: int) -> Iterator[list[int]]:
    """The indices in lists of `size`; turned into Python numbers many lists at a time, which is quicker."""
    for block in blocks:
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
