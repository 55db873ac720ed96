"""Learning-rate schedules by name, as factors of the base learning rate for each update.

The curves are those of the reference, so that a run keeps its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from etude.errors import ConfigurationError


def _warmup(step: int, warmup: int) -> float:
    return step / max(1, warmup)


def _progress(step: int, warmup: int, total: int) -> float:
    """Share of the updates after warm-up that are done."""
    return (step - warmup) / max(1, total - warmup)


def linear(step: int, *, warmup: int, total: int) -> float:
    """Up in a line while warming up, then down in a line to 0 at the last update."""
    if step < warmup:
        return _warmup(step, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def cosine(step: int, *, warmup: int, total: int, num_cycles: float = 0.5) -> float:
    """Up in a line, then down along a cosine; half a cycle ends at 0."""
    if step < warmup:
        return _warmup(step, warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * _progress(step, warmup, total))))


def constant(step: int, *, warmup: int, total: int) -> float:
    """Always the base learning rate."""
    return 1.0


def constant_with_warmup(step: int, *, warmup: int, total: int) -> float:
    """Up in a line, then the base learning rate."""
    return _warmup(step, warmup) if step < warmup else 1.0


CURVES: dict[str, Callable[..., float]] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
    "constant_with_warmup": constant_with_warmup,
}
OPTIONS: dict[str, tuple[str, ...]] = {"cosine": ("num_cycles",)}


class FactorSchedule(LambdaLR):
    """A `LambdaLR` with one curve for all groups, evaluated once a step rather than once a group."""

    def __init__(self, optimizer: Optimizer, curve: Callable[[int], float]) -> None:
        # A partial, not a closure: PyTorch leaves it out of the scheduler's state, and the reference's files load.
        self._curve = curve
        super().__init__(optimizer, curve)

    def step(self, epoch: int | None = None) -> None:
        """Moves to the next update."""
        groups = self.optimizer.param_groups
        if epoch is not None or self._is_initial or any(isinstance(g["lr"], torch.Tensor) for g in groups):
            super().step(epoch)
            return
        self.last_epoch += 1
        self._step_count += 1
        factor = self._curve(self.last_epoch)
        self._last_lr = [base * factor for base in self.base_lrs]
        for group, rate in zip(groups, self._last_lr, strict=True):
            group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """The state of a `LambdaLR`."""
        return {name: value for name, value in super().state_dict().items() if name != "_curve"}


def build_schedule(
    name: str, optimizer: Optimizer, *, warmup: int, total: int, options: dict[str, Any] | None = None
) -> LRScheduler:
    """The schedule `name` for a run of `total` updates, `warmup` of them warming up.

    Raises:
        ConfigurationError: the schedule does not take one of the options.
    """
    allowed = OPTIONS.get(name, ())
    for key in options or {}:
        if key not in allowed:
            raise ConfigurationError(
                f"`lr_scheduler_kwargs`: the schedule {name!r} has no option {key!r} (its options: "
                f"{', '.join(allowed) or 'none'})."
            )
    return FactorSchedule(optimizer, partial(CURVES[name], warmup=warmup, total=total, **(options or {})))
