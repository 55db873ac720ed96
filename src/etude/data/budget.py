"""Micro-batches of samples of about the same length, cut out of the global batches that a run has anyway.

The samples of an update stay the same, and so do its loss and its gradient; what changes is which of them are padded
together. Sorted by length and cut so that no micro-batch has more than so many padded tokens, little is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import Sampler

from etude.data.samplers import StepBatches, chunks_from
from etude.errors import ConfigurationError

# What starting a micro-batch costs, in tokens of a small model that could be computed in that time.
LAUNCH_COSTS = {"cpu": 24.0, "cuda": 1024.0}
LARGEST_EXACT = 192  # samples for which the best cut is looked for; the time grows with the square


class MicroBatches(list[Any]):
    """Micro-batches that one item of a loader holds; None for one that other processes have and this one has not."""


def flattened(items: Iterable[Any]) -> list[Any]:
    """The micro-batches of a loader's items, each of which is one, or holds several."""
    result: list[Any] = []
    for item in items:
        result.extend(item) if isinstance(item, MicroBatches) else result.append(item)
    return result


class BudgetSampler(StepBatches):
    """The samples of one process in each update, in groups of at most so many padded tokens.

    All processes compute the same groups and take their part, so that nothing is communicated; each gets the same
    number, the last of which may be empty. The groups of an update are spread over as many items as it has
    micro-batches without the budget, so that positions in the epoch mean the same.

    Args:
        sampler: the global order, the same on every process.
        lengths: of all samples.
        batch_size: samples of one process in one item.
        accumulation_steps: items of one update.
        max_tokens: the largest size of a group, in samples times the length of the longest.
        launch_cost: what starting a micro-batch costs, in tokens: where that is cheaper, groups are not cut.
        drop_last: leave out the samples that do not fill an item of every process.
        rank, world_size: the place of this process.

    Raises:
        ConfigurationError: a sample alone is longer than `max_tokens`.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        lengths: Sequence[int],
        batch_size: int,
        accumulation_steps: int,
        max_tokens: int,
        launch_cost: float,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(rank)
        longest = max(lengths, default=0)
        if longest > max_tokens:
            raise ConfigurationError(
                f"`max_tokens_per_batch={max_tokens}` is less than the longest sample has, {longest} tokens: raise it, "
                "or truncate the samples."
            )
        self.sampler = sampler
        self.lengths = lengths
        self.batch_size = batch_size
        self.accumulation_steps = accumulation_steps
        self.max_tokens = max_tokens
        self.launch_cost = launch_cost
        self.drop_last = drop_last
        self.world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, here and in the order, and goes back to its start."""
        super().set_epoch(epoch)
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return self._num_items(len(self.sampler))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for step, groups in enumerate(self.batches_from(self._start), start=self._start):
            yield self._seeded(groups, step)

    def batches_from(self, step: int) -> Iterator[Any]:
        update, done = divmod(step, self.accumulation_steps)
        size = self.batch_size * self.world_size * self.accumulation_steps
        for samples in chunks_from(self.sampler, update * size, size):
            items = self._num_items(len(samples))
            groups = self._mine(samples[: items * self.batch_size * self.world_size])
            share = len(groups) / max(1, items)
            for item in range(done, items):
                yield groups[round(item * share) : round((item + 1) * share)]
            done = 0

    def indices(self, start: int, stop: int) -> list[int]:
        """Samples of this process in the items from `start` to `stop` of the current epoch."""
        items = islice(self.batches_from(start), stop - start)
        return [index for groups in items for group in groups for index in group]

    def _num_items(self, samples: int) -> int:
        at_once = self.batch_size * self.world_size
        return samples // at_once if self.drop_last else -(-samples // at_once)

    def _mine(self, samples: list[int]) -> list[list[int]]:
        """This process's groups of one update, the dearest first, and an empty one where the others have one more."""
        ordered = sorted(samples, key=lambda index: (self.lengths[index], index), reverse=True)
        lengths = [self.lengths[index] for index in ordered]
        sizes = cut(lengths, self.max_tokens, self.launch_cost)
        sizes = evened(sizes, lengths, self.world_size)
        groups, begin = [], 0
        for size in sizes:
            groups.append(ordered[begin : begin + size])
            begin += size
        groups.sort(key=lambda group: len(group) * self.lengths[group[0]], reverse=True)
        rows = [groups[i : i + self.world_size] for i in range(0, len(groups), self.world_size)]
        # every other row is dealt the other way round, so that no process always gets the dearest
        dealt = [row[::-1] if i % 2 and len(row) == self.world_size else row for i, row in enumerate(rows)]
        return [row[self.rank] if self.rank < len(row) else [] for row in dealt]


def cut(lengths: Sequence[int], max_tokens: int, launch_cost: float) -> list[int]:
    """Sizes of groups of neighbours that cost the least together; a group costs its padded tokens and a launch.

    Args:
        lengths: of the samples, falling.
        max_tokens: no group has more padded tokens.
        launch_cost: in tokens.
    """
    if len(lengths) > LARGEST_EXACT:
        middle = len(lengths) // 2
        return cut(lengths[:middle], max_tokens, launch_cost) + cut(lengths[middle:], max_tokens, launch_cost)
    # cheapest[i]: of the samples from i on; a group from i has its longest sample first
    cheapest = [0.0] * (len(lengths) + 1)
    size_at = [0] * len(lengths)
    for i in range(len(lengths) - 1, -1, -1):
        longest = max(1, lengths[i])
        room = min(len(lengths) - i, max(1, max_tokens // longest))
        best = float("inf")
        for size in range(1, room + 1):
            cost = launch_cost + size * longest + cheapest[i + size]
            if cost < best:
                best, size_at[i] = cost, size
        cheapest[i] = best
    sizes, i = [], 0
    while i < len(lengths):
        sizes.append(size_at[i])
        i += size_at[i]
    return sizes


def evened(sizes: list[int], lengths: Sequence[int], processes: int) -> list[int]:
    """The groups with the dearest ones halved until all processes can have the same number, if samples suffice."""
    sizes = list(sizes)
    while len(sizes) % processes and max(sizes) > 1:
        begins = [sum(sizes[:i]) for i in range(len(sizes))]
        dearest = max(
            (i for i in range(len(sizes)) if sizes[i] > 1), key=lambda i: sizes[i] * lengths[begins[i]]
        )
        half = sizes[dearest] // 2
        sizes[dearest : dearest + 1] = [half, sizes[dearest] - half]
    return sizes


def launch_cost(device_type: str) -> float:
    """What starting a micro-batch costs on a device, in tokens."""
    return LAUNCH_COSTS.get(device_type, LAUNCH_COSTS["cuda"])


class Groups:
    """A data set that is read group by group.

    Args:
        dataset: map-style.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, group: Sequence[int]) -> list[Any]:
        if hasattr(self.dataset, "__getitems__"):
            return list(self.dataset.__getitems__(list(group)))
        return [self.dataset[index] for index in group]


class CollateGroups:
    """Makes one micro-batch of each group."""

    def __init__(self, collator: Callable[[list[Any]], Any]) -> None:
        self.collator = collator

    def __call__(self, groups: list[list[Any]]) -> MicroBatches:
        return MicroBatches(self.collator(group) if group else None for group in groups)
