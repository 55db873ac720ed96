"""A user's own data loader, made fit for a run: this process's share of it, and an order that can be found again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, Sampler

from etude.core import nested
from etude.core.world import World
from etude.data.loader import is_iterable
from etude.data.samplers import EveryNth, GlobalBatchSampler, Skipping
from etude.data.shards import RankShard

# What a loader is made of, besides the data set and the order of its batches.
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


class RankBatches(EveryNth):
    """Every `world_size`-th batch of a batch sampler, with the length of the process that has most of them."""

    def __len__(self) -> int:
        return -(-len(self.batches) // self.world_size)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on to the batch sampler."""
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)


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
        batches: Any = self.batch_sampler
        parts: list[Any] = [batches, getattr(batches, "batches", None)]
        for part in [*parts, *[getattr(p, "sampler", None) for p in parts], self.sampler, self.dataset]:
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def batches_from(self, step: int) -> Iterator[Any]:
        """The batches of the current epoch from `step` on, on the host, none repeated."""
        if step == 0:
            return super().__iter__()
        if self.batch_sampler is None or is_iterable(self.dataset):
            return islice(super().__iter__(), step, None)
        return iter(_like(self, self.dataset, batch_sampler=Skipping(self.batch_sampler, step)))

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
    if isinstance(loader, PreparedLoader) or isinstance(batches, (GlobalBatchSampler, EveryNth)):
        return loader
    places: dict[str, Any] = {"device": device, "even": even and world.size > 1}
    if is_iterable(loader.dataset):
        dataset: Any = loader.dataset
        if world.size > 1 and not isinstance(dataset, RankShard):
            dataset = RankShard(dataset, loader.batch_size or 1, loader.drop_last, world.rank, world.size)
        shape: dict[str, Any] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        return PreparedLoader(dataset, **places, **shape, **_options(loader))
    if batches is None:  # the sampler gives the indices of whole batches, or batches are single samples
        order = _share(loader.sampler, world)
        return PreparedLoader(loader.dataset, **places, sampler=order, batch_size=None, **_options(loader))
    _reseed(batches, seed)
    return PreparedLoader(loader.dataset, **places, batch_sampler=_share(batches, world), **_options(loader))


def _reseed(batches: Any, seed: int) -> None:
    """Puts a `ReseededSampler` into a batch sampler that draws from a random one."""
    sampler = getattr(batches, "sampler", None)
    if isinstance(sampler, RandomSampler) and not hasattr(sampler, "set_epoch"):
        batches.sampler = ReseededSampler(sampler, seed)


def _share(batches: Any, world: World) -> Any:
    return batches if world.size == 1 else RankBatches(batches, world.rank, world.size)


def _options(loader: DataLoader[Any]) -> dict[str, Any]:
    return {name: getattr(loader, name) for name in _OPTIONS}


def _like(loader: DataLoader[Any], dataset: Any, batch_sampler: Sampler[list[int]]) -> DataLoader[Any]:
    return DataLoader(dataset, batch_sampler=batch_sampler, **_options(loader))
