"""Micro-batches of unequal size that cost the same, out of the same global batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import torch

from etude.data.samplers import StepBatches
from etude.errors import ConfigurationError

HALVINGS = 30  # of the interval in which the smallest sufficient cost is sought


class BatchRebalanceSampler(StepBatches):
    """The micro-batches of one process, balanced by cost.

    Every update takes the same samples as without balancing: the next `effective_batch_size` of a random order. Sorted
    by length, they are cut into one micro-batch for each process and accumulation step so that the dearest is as cheap
    as can be: few long samples, or many short ones. Micro-batches of about the same cost run side by side. The cost of
    n samples padded to length l is n (l + 0.001 l²): linear layers, and attention.

    All processes compute the same and take their part: nothing is communicated. At the end of the epoch, samples that
    do not fill an update are divided likewise; nothing is repeated.

    Args:
        lengths: of all samples.
        effective_batch_size: samples of one update, of all processes.
        dp_size: number of processes.
        grad_accum: micro-batches of each process in one update.
        shuffle: draw a new order for each epoch, rather than keep that of the data set.
        seed: epoch e draws from a generator seeded with `seed + e`.
        rank: this process.
        drop_last: leave out samples that do not fill an update.

    Raises:
        ConfigurationError: an update has fewer samples than micro-batches.
    """

    QUADRATIC_COST_COEF = 0.001

    def __init__(
        self,
        lengths: Sequence[int],
        effective_batch_size: int,
        dp_size: int,
        grad_accum: int,
        shuffle: bool = True,
        seed: int = 42,
        rank: int = 0,
        drop_last: bool = True,
    ) -> None:
        if not 1 <= dp_size * grad_accum <= effective_batch_size:
            raise ConfigurationError(
                f"`effective_batch_size={effective_batch_size}` cannot be cut into {dp_size} (processes) times "
                f"{grad_accum} (accumulation steps) micro-batches: it needs at least one sample for each."
            )
        super().__init__(rank)
        self.lengths = list(lengths)
        self.effective_batch_size = effective_batch_size
        self.dp_size = dp_size
        self.grad_accum = grad_accum
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.effective_batch_size)
        return full * self.grad_accum + (0 if self.drop_last else self._num_slots(rest))

    def batches_from(self, step: int) -> Iterator[list[int]]:
        update, done = divmod(step, self.grad_accum)
        for samples in self._updates(update):
            yield from self._mine(samples)[done:]
            done = 0

    def _updates(self, start: int) -> Iterator[list[int]]:
        """The samples of each update, of all processes."""
        size = self.effective_batch_size
        for part in torch.split(self._order()[start * size :], size):
            if len(part) == size or (len(part) and not self.drop_last):
                yield part.tolist()

    def _order(self) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(len(self.lengths))
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return torch.randperm(len(self.lengths), generator=generator)

    def _num_slots(self, samples: int) -> int:
        """Micro-batches of each process for so many samples."""
        return min(self.grad_accum, -(-samples // self.dp_size))

    def _mine(self, samples: list[int]) -> list[list[int]]:
        """This process's micro-batches of one update; the last may be empty where samples have run out."""
        slots = self._num_slots(len(samples))
        groups = self._groups(samples, min(len(samples), slots * self.dp_size))
        rows = [groups[i : i + self.dp_size] for i in range(0, len(groups), self.dp_size)]
        # every other slot is dealt the other way round, so that no process always gets the dearest
        dealt = [row[::-1] if slot % 2 else row for slot, row in enumerate(rows)]
        return [row[self.rank] if self.rank < len(row) else [] for row in dealt]

    def _groups(self, samples: list[int], count: int) -> list[list[int]]:
        """The samples in groups of about the same cost, the dearest first."""
        ordered = sorted(samples, key=lambda index: self.lengths[index], reverse=True)
        prices = [self._cost(1, self.lengths[index]) for index in ordered]
        bounds = [0, *accumulate(balanced_sizes(prices, count, self.dp_size))]
        spans = sorted(pairwise(bounds), key=lambda span: (span[1] - span[0]) * prices[span[0]], reverse=True)
        return [ordered[begin:end] for begin, end in spans]

    def _cost(self, count: int, length: int) -> float:
        return count * length * (1 + self.QUADRATIC_COST_COEF * length)


def balanced_sizes(prices: Sequence[float], count: int, side_by_side: int) -> list[int]:
    """Sizes of groups of neighbours of which each `side_by_side` ones cost about the same, and little.

    The first ones are cut so that the dearest of all groups is as cheap as can be, and are filled up to its cost; the
    next ones in the same way out of what is left, and so on.

    Args:
        prices: of the samples, falling; a group costs its size times the price of its first sample.
        count: number of groups, none of them empty; at most that of the samples.
        side_by_side: how many run at the same time.
    """
    sizes: list[int] = []
    while len(sizes) < count:
        rest = prices[sum(sizes) :]
        sizes += _cheapest_sizes(rest, count - len(sizes))[:side_by_side]
    return sizes


def _cheapest_sizes(prices: Sequence[float], count: int) -> list[int]:
    """Sizes of `count` groups whose largest cost is as small as can be."""
    low, high = prices[0], prices[0] * len(prices)
    sizes = _sizes_within(prices, count, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = _sizes_within(prices, count, middle)
        if found is None:
            low = middle
        else:
            high, sizes = middle, found
    assert sizes is not None
    return sizes


def _sizes_within(prices: Sequence[float], count: int, limit: float) -> list[int] | None:
    """Sizes of `count` groups that cost at most `limit` each, the first ones as large as can be; None: impossible."""
    sizes: list[int] = []
    head = 0
    for still_to_come in range(count - 1, -1, -1):
        room = len(prices) - head - still_to_come
        affordable = _affordable(prices[head], limit, room)
        if affordable < (1 if still_to_come else room):
            return None
        sizes.append(min(room, affordable))
        head += sizes[-1]
    return sizes


def _affordable(price: float, limit: float, room: int) -> int:
    """How many samples of that price fit into the limit, to the last one also where the division is rounded down."""
    if price * room <= limit:
        return room
    count = int(limit / price)
    return count + 1 if price * (count + 1) <= limit else count
