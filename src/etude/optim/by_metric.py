"""Schedules that move after an evaluation, by one of its metrics, rather than at every update."""

from __future__ import annotations

import inspect
from typing import Any

from torch.optim import Optimizer


def needs_metric(schedule: Any) -> bool:
    """Whether `schedule.step` has to be given a metric, as those of `ReduceLROnPlateau` and `GreedyLR`."""
    metric = inspect.signature(schedule.step).parameters.get("metrics")
    return metric is not None and metric.default is metric.empty


class BetweenEvaluations:
    """Stands in for such a schedule in the loop: an update leaves the learning rates as they are."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def step(self) -> None:
        """Does nothing."""

    def get_last_lr(self) -> list[float]:
        """The learning rates of all groups."""
        return [group["lr"] for group in self._optimizer.param_groups]


def per_update(schedule: Any, optimizer: Optimizer) -> Any:
    """What the loop steps at every update: the schedule, or for one that goes by a metric its stand-in."""
    return BetweenEvaluations(optimizer) if needs_metric(schedule) else schedule
