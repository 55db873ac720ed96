"""Learning-rate schedules: one function for each, and `get_scheduler` for all of them by name.

Those that go by the update are curves (`etude.optim.curves`), those that go by a metric move after an evaluation.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from etude.core.names import SchedulerType
from etude.errors import ConfigurationError, UnknownArgumentError
from etude.optim import curves
from etude.optim.greedy import GreedyLR

logger = logging.getLogger(__name__)


class FactorSchedule(LambdaLR):
    """A `LambdaLR` with one curve for all groups, evaluated once a step rather than once a group."""

    def __init__(self, optimizer: Optimizer, curve: Callable[[int], float], last_epoch: int = -1) -> None:
        # A partial, not a closure: PyTorch leaves it out of the scheduler's state, and the reference's files load.
        self._curve = curve
        super().__init__(optimizer, curve, last_epoch)

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


def get_constant_schedule(optimizer: Optimizer, last_epoch: int = -1) -> LambdaLR:
    """Always the optimizer's learning rate."""
    return FactorSchedule(optimizer, partial(curves.constant), last_epoch)


def get_constant_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, last_epoch: int = -1
) -> LambdaLR:
    """Up from 0 in a line, then the optimizer's learning rate."""
    return FactorSchedule(
        optimizer, partial(curves.constant_with_warmup, warmup=num_warmup_steps), last_epoch
    )


def get_linear_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, last_epoch: int = -1
) -> LambdaLR:
    """Up from 0 in a line, then down in a line to 0 at the last update."""
    curve = partial(curves.linear, warmup=num_warmup_steps, total=num_training_steps)
    return FactorSchedule(optimizer, curve, last_epoch)


def get_cosine_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
) -> LambdaLR:
    """Up from 0 in a line, then along `num_cycles` waves of a cosine; half a wave ends at 0."""
    curve = partial(curves.cosine, warmup=num_warmup_steps, total=num_training_steps, num_cycles=num_cycles)
    return FactorSchedule(optimizer, curve, last_epoch)


def get_cosine_with_hard_restarts_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: int = 1,
    last_epoch: int = -1,
) -> LambdaLR:
    """Up from 0 in a line, then `num_cycles` times down along half a cosine, each time from the top."""
    curve = partial(
        curves.cosine_with_restarts, warmup=num_warmup_steps, total=num_training_steps, num_cycles=num_cycles
    )
    return FactorSchedule(optimizer, curve, last_epoch)


def get_polynomial_decay_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    lr_end: float = 1e-7,
    power: float = 1.0,
    last_epoch: int = -1,
) -> LambdaLR:
    """Up from 0 in a line, then down to the learning rate `lr_end` with a power of the updates left.

    Raises:
        ConfigurationError: `lr_end` is not below the optimizer's learning rate.
    """
    base = optimizer.defaults["lr"]
    if not base > lr_end:
        raise ConfigurationError(
            f"lr_end ({lr_end}) must be smaller than the initial learning rate ({base})."
        )
    curve = partial(
        curves.polynomial,
        warmup=num_warmup_steps,
        total=num_training_steps,
        base=base,
        end=lr_end,
        power=power,
    )
    return FactorSchedule(optimizer, curve, last_epoch)


def get_inverse_sqrt_schedule(
    optimizer: Optimizer, num_warmup_steps: int, timescale: int | None = None, last_epoch: int = -1
) -> LambdaLR:
    """Up from 0 in a line, then down with the inverse square root of the updates.

    Args:
        timescale: updates until the factor is 1/sqrt(2); the warm-up if not given, 10,000 without one.
    """
    if timescale is None:
        timescale = num_warmup_steps or 10_000
    curve = partial(curves.inverse_sqrt, warmup=num_warmup_steps, timescale=timescale)
    return FactorSchedule(optimizer, curve, last_epoch)


def get_cosine_with_min_lr_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> LambdaLR:
    """Up from 0 in a line, then along a cosine down to a lowest learning rate.

    Args:
        min_lr: the lowest learning rate.
        min_lr_rate: the same as a share of the optimizer's learning rate.

    Raises:
        ConfigurationError: not exactly one of the two is given.
    """
    curve = partial(
        curves.cosine,
        warmup=num_warmup_steps,
        total=num_training_steps,
        num_cycles=num_cycles,
        lowest=_lowest(optimizer, min_lr, min_lr_rate),
    )
    return FactorSchedule(optimizer, curve, last_epoch)


def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> LambdaLR:
    """Up in a line from above 0, then along a cosine down to a lowest learning rate.

    Args:
        min_lr: the lowest learning rate.
        min_lr_rate: the same as a share of the optimizer's learning rate.
        warmup_lr_rate: share of the learning rate that the warm-up begins with; one of its steps if not given.

    Raises:
        ConfigurationError: not exactly one of `min_lr` and `min_lr_rate` is given.
    """
    curve = partial(
        curves.cosine_from,
        warmup=num_warmup_steps,
        total=num_training_steps,
        num_cycles=num_cycles,
        lowest=_lowest(optimizer, min_lr, min_lr_rate),
        first=warmup_lr_rate,
    )
    return FactorSchedule(optimizer, curve, last_epoch)


def _lowest(optimizer: Optimizer, min_lr: float | None, min_lr_rate: float | None) -> float:
    """The lowest factor of the learning rate."""
    if min_lr is not None and min_lr_rate is not None:
        raise ConfigurationError("Only one of `min_lr` and `min_lr_rate` should be set.")
    if min_lr_rate is not None:
        return min_lr_rate
    if min_lr is None:
        raise ConfigurationError(
            "One of `min_lr` and `min_lr_rate` should be set (in `lr_scheduler_kwargs`)."
        )
    return float(min_lr / optimizer.defaults["lr"])


def get_wsd_schedule(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
) -> LambdaLR:
    """Warm-up, then the optimizer's learning rate, then decay.

    Args:
        num_decay_steps: updates of the decay.
        num_stable_steps: updates between warm-up and decay; what is left of `num_training_steps` if not given.
        warmup_type, decay_type: their slopes: "linear", "cosine" or "1-sqrt".
        min_lr_ratio: the factor that it begins and ends with.
        num_cycles: waves of a cosine decay.

    Raises:
        ConfigurationError: the numbers of updates do not go together, or a slope is unknown.
    """
    for name, shape in (("warmup_type", warmup_type), ("decay_type", decay_type)):
        if shape not in curves.SHAPES:
            raise ConfigurationError(f"Unknown `{name}` {shape!r}: choose one of {', '.join(curves.SHAPES)}.")
    curve = partial(
        curves.warmup_stable_decay,
        warmup=num_warmup_steps,
        stable=_stable_steps(num_warmup_steps, num_decay_steps, num_training_steps, num_stable_steps),
        decay=num_decay_steps,
        warmup_type=warmup_type,
        decay_type=decay_type,
        lowest=min_lr_ratio,
        num_cycles=num_cycles,
    )
    return FactorSchedule(optimizer, curve, last_epoch)


def _stable_steps(warmup: int, decay: int, total: int | None, stable: int | None) -> int:
    if stable is None:
        if total is None:
            raise ConfigurationError("Either `num_training_steps` or `num_stable_steps` must be specified.")
        if warmup + decay > total:
            raise ConfigurationError(
                f"`warmup_stable_decay`: warm-up and decay take {warmup} + {decay} updates, the run has only {total}."
            )
        return total - warmup - decay
    if total is not None and warmup + stable + decay != total:
        logger.warning(
            "`warmup_stable_decay`: warm-up, `num_stable_steps` and decay take %d + %d + %d updates, the run has %d.",
            warmup, stable, decay, total,
        )  # fmt: skip
    return stable


def get_reduce_on_plateau_schedule(optimizer: Optimizer, **kwargs: Any) -> ReduceLROnPlateau:
    """PyTorch's `ReduceLROnPlateau`: down when a metric has not improved for a while."""
    return ReduceLROnPlateau(optimizer, **kwargs)


def get_greedy_schedule(optimizer: Optimizer, **kwargs: Any) -> GreedyLR:
    """A `GreedyLR`: up while a metric improves, down while it does not."""
    return GreedyLR(optimizer, **kwargs)


SCHEDULES: dict[str, Callable[..., Any]] = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_with_restarts": get_cosine_with_hard_restarts_schedule_with_warmup,
    "polynomial": get_polynomial_decay_schedule_with_warmup,
    "constant": get_constant_schedule,
    "constant_with_warmup": get_constant_schedule_with_warmup,
    "inverse_sqrt": get_inverse_sqrt_schedule,
    "reduce_lr_on_plateau": get_reduce_on_plateau_schedule,
    "cosine_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup,
    "cosine_warmup_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    "warmup_stable_decay": get_wsd_schedule,
    "greedy": get_greedy_schedule,
}
BY_METRIC: dict[str, type] = {"reduce_lr_on_plateau": ReduceLROnPlateau, "greedy": GreedyLR}
LENGTHS = ("num_warmup_steps", "num_training_steps")  # they come from the run, not from `lr_scheduler_kwargs`


def get_scheduler(
    name: str | SchedulerType,
    optimizer: Optimizer,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: dict[str, Any] | None = None,
) -> Any:
    """The schedule `name`.

    Args:
        optimizer: whose learning rates it moves.
        num_warmup_steps: updates of warm-up.
        num_training_steps: updates of the whole run.
        scheduler_specific_kwargs: further arguments of this schedule (`lr_scheduler_kwargs`).

    Raises:
        UnknownArgumentError: the schedule does not take one of those.
        ConfigurationError: one that it needs is missing.
    """
    try:
        name = SchedulerType(name)
    except ValueError as error:
        raise ConfigurationError(f"`lr_scheduler_type`: {error}.") from None
    make = SCHEDULES[str(name)]
    parameters = inspect.signature(BY_METRIC.get(str(name), make)).parameters
    options = dict(scheduler_specific_kwargs or {})
    allowed = [key for key in parameters if key not in ("optimizer", *LENGTHS)]
    for key in options:
        if key not in allowed:
            raise UnknownArgumentError(
                f"`lr_scheduler_kwargs`: the schedule '{name}' has no option {key!r} (its options: "
                f"{', '.join(allowed)})."
            )
    for key, value in zip(LENGTHS, (num_warmup_steps, num_training_steps), strict=True):
        if key in parameters and value is not None:
            options[key] = value
    for key, parameter in parameters.items():
        if key != "optimizer" and parameter.default is parameter.empty and key not in options:
            where = "" if key in LENGTHS else " in `lr_scheduler_kwargs`"
            raise ConfigurationError(f"The schedule '{name}' requires `{key}`, please provide it{where}.")
    return make(optimizer, **options)
