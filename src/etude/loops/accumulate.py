"""What each micro-batch counts for in the loss of its global batch.

The promise: the loss of a global batch is the sum of the losses of its valid items, over all micro-batches and all
processes, divided by their number. However the batch is cut, the update is the same.

A loss comes in one of two kinds. Some models divide by the number of items that they are given
(`num_items_in_batch`): their losses add up by themselves. All others return the mean over their own micro-batch, which
has to be weighted by that micro-batch's share of the items. A signature with `**kwargs` does not tell which kind it is,
so the number is watched on its first way through the model: either it is computed with, or it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from etude.data.items import label_items, valid_items
from etude.strategies.base import Strategy

# Looking at a number, or moving it, is not computing with it.
_PASSIVE = {
    torch.Tensor.to,
    torch.Tensor.cpu,
    torch.Tensor.cuda,
    torch.Tensor.clone,
    torch.Tensor.detach,
    torch.Tensor.float,
    torch.Tensor.double,
    torch.Tensor.long,
    torch.Tensor.int,
    torch.Tensor.requires_grad_,
    torch.Tensor.is_floating_point,
    torch.Tensor.dim,
    torch.Tensor.size,
    torch.Tensor.numel,
    torch.Tensor.__format__,
    torch.is_floating_point,
    torch.Tensor.__repr__,
}


class WatchedCount(torch.Tensor):
    """A number of items that remembers whether anything was computed with it."""

    used: list[bool]

    @classmethod
    def watch(cls, count: torch.Tensor) -> WatchedCount:
        """`count` with an eye on it."""
        watched = count.as_subclass(cls)
        watched.used = [False]
        return watched

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        given = [*args, *(kwargs or {}).values()]
        # lists of tensors, as torch.stack takes them
        given += [item for part in given if isinstance(part, (list, tuple)) for item in part]
        origin = next((a for a in given if isinstance(a, cls)), None)
        if origin is None or getattr(func, "__name__", "") == "__get__":  # attributes: shape, device, dtype
            return result
        if func not in _PASSIVE:
            origin.used[0] = True
            return result
        if isinstance(result, torch.Tensor):
            result = result.as_subclass(cls)
            result.used = origin.used
        return result


class Accumulation:
    """The weights of the micro-batches of the current update.

    Args:
        strategy: to count over processes.
        label_names: keys of a batch that hold labels.
        shifted: whether the model predicts each label from what is before it (causal language models).
        across_processes: whether the mean is taken over all processes' items, or over each process's and then over
            the processes.
    """

    def __init__(
        self, strategy: Strategy, label_names: Sequence[str], shifted: bool, across_processes: bool
    ) -> None:
        self._strategy = strategy
        self._label_names = label_names
        self._shifted = shifted
        self._across = across_processes
        self._uses_count: bool | None = None
        self._countable: bool | None = None
        self._batches: list[Any] = []
        self._spare = 0
        self._index = 0
        self._weights: list[Any] | None = None

    def begin(self, batches: list[Any], spare: int = 0) -> None:
        """Starts an update with these micro-batches, the last `spare` of which count for nothing.

        Spare ones keep a process that has run out of samples in step with the others.
        """
        self._batches = batches
        self._spare = spare
        self._index = 0
        self._weights = None

    def advance(self) -> None:
        """Goes on to the next micro-batch."""
        self._index += 1

    @property
    def is_last(self) -> bool:
        """Whether the micro-batch in progress completes its update; so does a single batch outside of a training."""
        return self._index >= len(self._batches) - 1

    @property
    def is_spare(self) -> bool:
        """Whether the micro-batch in progress counts for nothing."""
        return bool(self._batches) and self._index >= len(self._batches) - self._spare

    def count(self, batches: list[Any], device: torch.device) -> torch.Tensor | None:
        """Number of label items in `batches`, over all processes where so set; a 0-dimensional tensor, or None.

        What `num_items_in_batch` is. None where the labels cannot be counted.
        """
        counts = [label_items(batch, self._shifted) for batch in batches]
        countable = None not in counts
        shared = self._across and self._strategy.world.size > 1
        if shared:
            # A process that has run out of samples counts too, so that all meet in the same collective. Whether labels
            # can be counted at all depends on the kind of data: the processes agree on it once.
            if self._countable is None:
                self._countable = not self._strategy.agree([not countable])[0]
            countable = self._countable
        if not countable or not (counts or shared):
            return None
        total = torch.full((), sum(filter(None, counts)), dtype=torch.int64, device=device)
        return self._strategy.sum(total) if shared else total

    def watch(self, count: torch.Tensor | None) -> torch.Tensor | None:
        """The count as the model should get it: watched, until it is known what the model does with it."""
        if self._uses_count is not None or not isinstance(count, torch.Tensor):
            return count
        return WatchedCount.watch(count)

    def is_divided(self, count: Any) -> bool:
        """Whether the loss just computed was divided by `count`."""
        if isinstance(count, WatchedCount):
            self._uses_count = count.used[0]
        return count is not None and bool(self._uses_count)

    def weigh(self, loss: torch.Tensor, divided: bool) -> torch.Tensor:
        """The current micro-batch's part of the loss of its global batch.

        Args:
            loss: as the model returned it.
            divided: whether it is divided by the number of items of the global batch already.
        """
        if not self._batches:  # a single batch outside of a training
            return loss
        if not divided and self._weights is None:
            self._weights = self._shares()  # first of all: every process has to take part in the counting
        if self._index >= len(self._batches) - self._spare:
            return torch.nan_to_num(loss) * 0.0
        weight = 1.0 if divided or self._weights is None else self._weights[self._index]
        if isinstance(weight, float) and weight == 0.0:
            # the mean of nothing is NaN, its part of the sum is nothing
            return torch.nan_to_num(loss) * 0.0
        return self._told_to_others(loss, weight)

    def _told_to_others(self, loss: torch.Tensor, weight: Any) -> torch.Tensor:
        """With several processes, a loss that is not finite spoils the gradient of all of them, so that all notice."""
        if self._strategy.world.size == 1:
            return loss if isinstance(weight, float) and weight == 1.0 else loss * float(weight)
        scale: torch.Tensor = weight + loss.detach() * 0.0
        return loss * scale.to(loss.dtype)

    def _shares(self) -> list[Any]:
        """The weight of each micro-batch."""
        real = self._batches[: len(self._batches) - self._spare]
        alone = self._strategy.world.size == 1
        if alone and len(real) == 1:
            return [1.0]
        counts = [valid_items(batch, self._label_names, self._shifted) for batch in real]
        if alone or not self._across:
            total = max(1, sum(counts))
            return [count / total for count in counts]
        everywhere = torch.full((), float(sum(counts)), dtype=torch.float64, device=self._strategy.device)
        everywhere = self._strategy.sum(everywhere).clamp(min=1.0)
        size = (
            self._strategy.world.size
        )  # gradients are averaged over processes: the sum is `size` times that
        return [0.0 if count == 0 else count * size / everywhere for count in counts]
