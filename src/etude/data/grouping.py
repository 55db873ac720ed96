"""Orders in which neighbours are of about the same length, so that batches need little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from torch.utils.data.distributed import DistributedSampler

from etude.data.lengths import sample_lengths
from etude.data.samplers import EpochOrder
from etude.errors import ConfigurationError

GROUPS = 50  # batches that are sorted together, at most
FEWEST = 4  # times that something is sorted in an epoch, so that small data sets stay random


def length_grouped_order(
    lengths: torch.Tensor,
    batch_size: int,
    mega_batch_mult: int | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """A random order in which each stretch of batches is sorted by length, longest first.

    The longest sample of all comes first, so that a batch that does not fit into memory shows at once.

    Args:
        lengths: of all samples, shape [samples].
        batch_size: samples of one batch.
        mega_batch_mult: batches of one stretch; 50 if not given, or fewer where that makes less than 4 stretches.
        generator: what the random order is drawn from; PyTorch's global one if not given.

    Returns:
        Indices, shape [samples].
    """
    if len(lengths) == 0:
        return torch.empty(0, dtype=torch.int64)
    if mega_batch_mult is None:
        mega_batch_mult = max(1, min(len(lengths) // (batch_size * FEWEST), GROUPS))
    order = torch.randperm(len(lengths), generator=generator)
    size = mega_batch_mult * batch_size
    stretches = [
        part[lengths[part].argsort(descending=True, stable=True)] for part in torch.split(order, size)
    ]
    longest = int(torch.stack([lengths[part[0]] for part in stretches]).argmax())
    order = torch.cat(stretches)
    order[[0, longest * size]] = order[[longest * size, 0]]
    return order


def get_length_grouped_indices(
    lengths: Sequence[int],
    batch_size: int,
    mega_batch_mult: int | None = None,
    generator: torch.Generator | None = None,
) -> list[int]:
    """`length_grouped_order` for lists."""
    order = length_grouped_order(torch.as_tensor(lengths), batch_size, mega_batch_mult, generator)
    return order.tolist()


class LengthGroupedSampler(Sampler[int]):
    """A new order for every iteration, in which samples of about the same length are together.

    Args:
        batch_size: samples of one batch.
        dataset: where lengths are read from, if they are not given.
        lengths: of all samples.
        model_input_name: key of what is counted in each sample; "input_ids" if not given.
        generator: what orders are drawn from; PyTorch's global one if not given.

    Raises:
        ConfigurationError: neither a data set nor lengths are given.
        DataError: the lengths cannot be told.
    """

    def __init__(
        self,
        batch_size: int,
        dataset: Any = None,
        lengths: Sequence[int] | torch.Tensor | None = None,
        model_input_name: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.lengths = _given_or_read(lengths, dataset, model_input_name)
        self.generator = generator

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=self.generator))


class LengthGroupedEpochSampler(EpochOrder, LengthGroupedSampler):
    """A length-grouped order that is a function of the seed and the epoch.

    Args:
        batch_size: samples of one update, of all processes.
        lengths: of all samples.
        seed: epoch e draws from a generator seeded with `seed + e`.
    """

    def __init__(self, batch_size: int, lengths: Sequence[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed

    def order(self) -> torch.Tensor:
        """Indices of the whole epoch, shape [samples]."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return length_grouped_order(torch.as_tensor(self.lengths), self.batch_size, generator=generator)


class DistributedLengthGroupedSampler(DistributedSampler[Any]):
    """One process's share of a length-grouped order, for loops of one's own.

    As PyTorch's `DistributedSampler`, it repeats samples, or drops some, to give every process as many.

    Args:
        batch_size: samples of one batch.
        dataset: where lengths are read from, if they are not given.
        num_replicas, rank: the place of this process; that of the process group if not given.
        seed: epoch e draws from a generator seeded with `seed + e`.
        drop_last: drop samples rather than repeat some.
        lengths: of all samples.
        model_input_name: key of what is counted in each sample; "input_ids" if not given.

    Raises:
        ConfigurationError: neither a data set nor lengths are given.
        DataError: the lengths cannot be told.
    """

    def __init__(
        self,
        batch_size: int,
        dataset: Any = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
        lengths: Sequence[int] | torch.Tensor | None = None,
        model_input_name: str | None = None,
    ) -> None:
        self.lengths = _given_or_read(lengths, dataset, model_input_name)
        data: Any = self.lengths  # only its length is used
        super().__init__(data, num_replicas, rank, seed=seed, drop_last=drop_last)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        indices = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        indices += indices[: max(0, self.total_size - len(indices))]
        return iter(indices[self.rank : self.total_size : self.num_replicas])


def _given_or_read(
    lengths: Sequence[int] | torch.Tensor | None, dataset: Any, input_name: str | None
) -> list[int]:
    if lengths is None and dataset is None:
        raise ConfigurationError("One of `dataset` and `lengths` must be provided.")
    if lengths is None:
        return sample_lengths(dataset, input_name=input_name)
    return lengths.tolist() if isinstance(lengths, torch.Tensor) else list(lengths)
