"""Building PyTorch data loaders."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from etude.core.world import World
from etude.data.arrow import in_bulk
from etude.data.budget import BudgetSampler, CollateGroups, Groups
from etude.data.divided import IterableDatasetShard
from etude.data.samplers import EpochOrder, EpochSampler, EvaluationBatches, GlobalBatchSampler, StepBatches
from etude.data.shards import RankShard, SeededDataset
from etude.data.streams import StreamLoader
from etude.data.workers import begin_training_worker, begin_worker
from etude.errors import DataError


@dataclass(frozen=True)
class LoaderSettings:
    """How batches are loaded; the names are those of PyTorch's DataLoader."""

    num_workers: int = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_factor: int | None = None
    multiprocessing_context: str | None = None
    in_order: bool = True

    def options(self) -> dict[str, Any]:
        """Keyword arguments of DataLoader."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def has_length(dataset: Any) -> bool:
    """Whether `len(dataset)` works."""
    try:
        return len(dataset) is not None
    except (TypeError, NotImplementedError, AttributeError):
        return False


def is_iterable(dataset: Any) -> bool:
    """Whether the data set is a stream rather than a map from indices to samples."""
    return isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__")


def train_loader(
    dataset: Any,
    sampler: Any,
    collate_fn: Any,
    *,
    batch_size: int,
    drop_last: bool,
    seed: int,
    world: World,
    settings: LoaderSettings,
) -> DataLoader[Any]:
    """A loader of this process's share of the training data.

    Args:
        sampler: the global order of a map-style data set, the same on every process; a `DistributedSampler` is taken
            to have divided it already, a batch sampler to have cut it into this process's batches.
        seed: seed of what loading processes draw.
    """
    options = {"collate_fn": collate_fn, "worker_init_fn": begin_training_worker, **settings.options()}
    if is_iterable(dataset):
        if world.size > 1 and not isinstance(dataset, IterableDatasetShard):
            dataset = RankShard(dataset, batch_size, drop_last, world.rank, world.size)
        shape: dict[str, Any] = {"batch_size": batch_size, "drop_last": drop_last}
        return StreamLoader(dataset, seed=seed, rank=world.rank, **shape, **options)
    if isinstance(sampler, BatchSampler):
        return DataLoader(dataset, batch_sampler=sampler, **options)
    dataset, options["collate_fn"] = in_bulk(dataset, collate_fn)
    if isinstance(sampler, BudgetSampler):
        options["collate_fn"] = CollateGroups(options["collate_fn"])
        return _of_steps(Groups(dataset), sampler, seed, options)
    if isinstance(sampler, StepBatches):
        batches = sampler
    else:
        divided = isinstance(sampler, DistributedSampler)
        rank, size = (0, 1) if divided else (world.rank, world.size)
        batches = GlobalBatchSampler(reseeded(sampler, seed), batch_size, drop_last, rank, size)
        seed += world.rank if divided else 0  # processes should not draw the same
    return _of_steps(dataset, batches, seed, options)


def eval_loader(
    dataset: Any,
    sampler: Any,
    collate_fn: Any,
    *,
    batch_size: int,
    seed: int,
    world: World,
    settings: LoaderSettings,
) -> DataLoader[Any]:
    """A loader of this process's share of a data set that is only looked at: every sample once, in order.

    Process r of w gets the batches r, r + w, r + 2w ... of a run with one process.

    Args:
        sampler: the order of a map-style data set, the same on every process.
        seed: seed of what loading processes draw, the same in every evaluation.
    """
    # No generator of its own: PyTorch then draws a number when the loader is entered, as under the reference, so that
    # a model that draws while it is evaluated draws the same there and here.
    options = {"collate_fn": collate_fn, "worker_init_fn": begin_worker, **settings.options()}
    if is_iterable(dataset):
        if world.size > 1:
            dataset = RankShard(dataset, batch_size, False, world.rank, world.size)
        return DataLoader(dataset, batch_size=batch_size, **options)
    dataset, options["collate_fn"] = in_bulk(dataset, collate_fn)
    batches = EvaluationBatches(sampler, batch_size, world.rank, world.size)
    return _of_steps(dataset, batches, seed, options)


def _of_steps(dataset: Any, batches: StepBatches, seed: int, options: dict[str, Any]) -> DataLoader[Any]:
    """A loader of these batches; what loading processes draw depends on a batch's place and not on when they start."""
    if options["num_workers"]:
        batches.batch_seed = seed
        dataset = SeededDataset(dataset)
    return DataLoader(dataset, batch_sampler=batches, **options)


def reseeded(sampler: Any, seed: int) -> Any:
    """PyTorch's own RandomSampler as an `EpochSampler`, whose order a resumed run can find again.

    Only the plain one, which draws every sample once: any other sampler is the user's decision.
    """
    if (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    ):
        return EpochSampler(sampler.data_source, seed)
    return sampler


def any_batch(loader: Any) -> Any:
    """A batch of one sample, for a process that has none of its own but must keep in step with the others.

    Raises:
        DataError: the loader reads a stream, and there is nothing left in it for this process.
    """
    dataset = getattr(loader, "dataset", None)
    if dataset is None or is_iterable(dataset):
        raise DataError(
            "A process has no sample of the training stream while others have: the stream needs at least as many "
            "samples as there are processes."
        )
    if isinstance(loader.collate_fn, CollateGroups):
        return loader.collate_fn([dataset[[0]]])[0]
    return loader.collate_fn([dataset[0]])


def num_samples(loader: Any) -> int | None:
    """Samples of an epoch of the loader: those of its data set, or of the order in which it is read; or None."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    if isinstance(sampler, EpochOrder):
        return len(sampler)  # type: ignore[arg-type]
    dataset = getattr(loader, "dataset", None)
    return len(dataset) if isinstance(dataset, Sized) and has_length(dataset) else None
