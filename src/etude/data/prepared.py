"""A user's own data loader, made fit for a run: this process's share of it, and an order that can be found again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler

from etude.core import nested
from etude.core.world import World
from etude.data.loader import is_iterable
from etude.data.samplers import StepBatches
from etude.data.shards import RankShard
from etude.data.streams import StreamLoader, options_of


class ReseededSampler(RandomSampler):
    """PyTorch's random sampler, with an order that depends only on the seed and the epoch.

    Args:
        original: the sampler whose data, replacement and number of samples are kept.
        seed: epoch e draws from a generator seeded with `seed + e`, which is the rule of the reference.
    """

    def __init__(self, original: RandomSampler, seed: int) -> None:
        super().__init__(original.data_source, original.replacement, original._num_samples)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return super().__iter__()


class SharedBatches(StepBatches):
    """This process's batches out of a user's batch sampler: every `world_size`-th.

    The length is that of the process that has most of them.
    """

    def __init__(self, batches: Any, rank: int, world_size: int) -> None:
        super().__init__(rank)
        self.batch_sampler = batches
        self.world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, here and in the batch sampler."""
        super().set_epoch(epoch)
        parts: list[Any] = [self.batch_sampler, getattr(self.batch_sampler, "sampler", None)]
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.batch_sampler) // self.world_size)

    def batches_from(self, step: int) -> Iterator[list[int]]:
        return islice(iter(self.batch_sampler), self.rank + step * self.world_size, None, self.world_size)


class PreparedLoader(DataLoader[Any]):
    """This process's share of a loader.

    The training and evaluation loops read it through `batches_from`. Who iterates over it gets batches on the device,
    and, with `even`, as many on every process: one that has run out repeats its first batch, and says so in `filling`.

    Attributes:
        filling: whether the batch that was given last is such a repetition.
    """

    filling = False

    def __init__(self, dataset: Any, *, device: torch.device, even: bool, **options: Any) -> None:
        super().__init__(dataset, **options)
        self._place = device
        self._even = even
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tells the samplers and the data set which epoch comes."""
        self._epoch = epoch
        parts: list[Any] = [self.batch_sampler, self.sampler, self.dataset]
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def batches_from(self, step: int) -> Iterator[Any]:
        """The batches of the current epoch from `step` on, on the host, none repeated."""
        if isinstance(self.batch_sampler, SharedBatches):
            self.batch_sampler.seek(step)
            return super().__iter__()
        return islice(super().__iter__(), step, None)

    def __iter__(self) -> Any:
        first, given = None, 0
        for batch in super().__iter__():
            placed = nested.to_device(batch, self._place)
            first = placed if given == 0 else first
            given += 1
            yield placed
        if self._even and given and not is_iterable(self.dataset) and given < len(self):
            self.filling = True
            try:
                yield first
            finally:
                self.filling = False
        self.set_epoch(self._epoch + 1)


def prepared(
    loader: DataLoader[Any], *, seed: int, world: World, device: torch.device, even: bool
) -> DataLoader[Any]:
    """`loader` for this process. One that is prepared already, or that etude has built, stays as it is.

    Args:
        loader: reads all of the data; a random sampler in it is replaced by a `ReseededSampler`.
        seed: of the order of samples.
        world: the place of this process.
        device: where batches go.
        even: give every process the same number of batches where somebody iterates over the loader.
    """
    batches = loader.batch_sampler
    if isinstance(loader, (PreparedLoader, StreamLoader)) or isinstance(batches, StepBatches):
        return loader
    places: dict[str, Any] = {"device": device, "even": even and world.size > 1}
    if is_iterable(loader.dataset):
        dataset: Any = loader.dataset
        if world.size > 1 and not isinstance(dataset, RankShard):
            dataset = RankShard(dataset, loader.batch_size or 1, loader.drop_last, world.rank, world.size)
        shape: dict[str, Any] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        return PreparedLoader(dataset, **places, **shape, **options_of(loader))
    if batches is None:  # the sampler gives the indices of whole batches, or batches are single samples
        order = SharedBatches(loader.sampler, world.rank, world.size)
        return PreparedLoader(loader.dataset, **places, sampler=order, batch_size=None, **options_of(loader))
    _reseed(batches, seed)
    own = SharedBatches(batches, world.rank, world.size)
    return PreparedLoader(loader.dataset, **places, batch_sampler=own, **options_of(loader))


def _reseed(batches: Any, seed: int) -> None:
    """Puts a `ReseededSampler` into a batch sampler that draws from a random one."""
    sampler = getattr(batches, "sampler", None)
    if isinstance(sampler, RandomSampler) and not hasattr(sampler, "set_epoch"):
        batches.sampler = ReseededSampler(sampler, seed)
