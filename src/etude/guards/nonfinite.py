"""A loss or a gradient that is not finite is found before the optimizer moves.

Two ways of looking. `HostGuard` reads the two numbers, which costs nothing where they are on the host already.
`DeviceGuard` never waits for the device: it hands the verdict to the optimizer's kernel, which then leaves the weights
as they are (the mechanism that PyTorch made for loss scaling), and the host learns of it at the next log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch.optim import Optimizer

from etude.core.names import NonFinitePolicy
from etude.errors import NonFiniteError
from etude.precision import Precision
from etude.strategies.base import Strategy

logger = logging.getLogger(__name__)
MOST_SAMPLES_SHOWN = 32


class HostGuard:
    """Reads loss and gradient norm before each step.

    Args:
        policy: what to do about a value that is not finite.
        precision: moves the weights; where it scales losses, an overflowing gradient is normal and its own business.
        locate: the data set indices of a step's samples on this process, for the error.
    """

    def __init__(
        self,
        policy: NonFinitePolicy,
        precision: Precision,
        strategy: Strategy,
        locate: Callable[[int], list[int] | None],
    ) -> None:
        self.policy = policy
        self.precision = precision
        self.strategy = strategy
        self.locate = locate

    def step(self, optimizer: Optimizer, loss: torch.Tensor, norm: torch.Tensor, step: int) -> bool:
        """Moves the weights unless the policy forbids it. Returns whether the schedule should move too.

        Args:
            loss: loss of the global batch, or this process's part of it.
            norm: norm of its gradient, equal on all processes.
            step: number of this step, from 1.
        """
        if self.policy is NonFinitePolicy.LOG or not self._is_bad(loss, norm):
            return self.precision.step(optimizer)
        if self.policy is NonFinitePolicy.RAISE:
            self._raise(step, float(loss), float(norm))
        logger.warning(
            "Step %d is left out: its loss is %s and its gradient norm %s (on_nonfinite='skip').",
            step,
            *_shown(loss, norm),
        )
        for (
            group
        ) in optimizer.param_groups:  # without gradients a step leaves weights and moments as they are
            for parameter in group["params"]:
                parameter.grad = None
        return self.precision.step(optimizer)

    def settle(self) -> None:
        """Reports what is still to be reported; called where the host waits for the device anyway."""

    def _is_bad(self, loss: torch.Tensor, norm: torch.Tensor) -> bool:
        if not self.precision.overflow_is_normal:
            return not (math.isfinite(norm) and math.isfinite(loss))
        return self.strategy.agree([not math.isfinite(loss)])[0]

    def _raise(self, step: int, loss: float, norm: float) -> NoReturn:
        samples = self.locate(step)
        shown = ""
        if samples is not None:
            listed = ", ".join(map(str, samples[:MOST_SAMPLES_SHOWN]))
            shown = f" Its samples on this process: {listed}{', ...' if len(samples) > MOST_SAMPLES_SHOWN else ''}."
        raise NonFiniteError(
            f"The loss of step {step} is {loss} and its gradient norm {norm}; the weights are those before that step."
            f"{shown} Look at those samples, lower the learning rate or warm up longer; on_nonfinite='skip' leaves "
            "such steps out, 'log' goes on regardless.",
            step=step,
            loss=loss,
            grad_norm=norm,
            samples=samples,
        )


class DeviceGuard(HostGuard):
    """Lets the optimizer's kernel decide, so that the host never waits. Needs a fused optimizer.

    After a bad step under "raise", the weights stay as they were before it until the host gets to raise the error.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._record: torch.Tensor | None = None  # [first bad step, its loss, its norm, number of bad steps]

    def step(self, optimizer: Optimizer, loss: torch.Tensor, norm: torch.Tensor, step: int) -> bool:
        if self.policy is NonFinitePolicy.LOG:
            return self.precision.step(optimizer)
        loss, norm = loss.double(), norm.double()
        bad = ~torch.isfinite(loss + norm)
        if self._record is None:
            self._record = torch.zeros(4, dtype=torch.float64, device=loss.device)
        seen = self._record[3] > 0
        now = torch.stack([torch.full_like(loss, step), loss, norm, bad.double()])
        first = torch.where(bad & ~seen, now, self._record)
        first[3] = self._record[3] + bad
        self._record = first
        stop = (bad | seen) if self.policy is NonFinitePolicy.RAISE else bad
        moves: Any = optimizer
        moves.grad_scale, moves.found_inf = None, stop.float()
        try:
            optimizer.step()
        finally:
            del moves.grad_scale, moves.found_inf
        return True

    def settle(self) -> None:
        if self._record is None:
            return
        step, loss, norm, count = self._record.tolist()
        self._record = None
        if count and self.policy is NonFinitePolicy.RAISE:
            self._raise(int(step), loss, norm)
        if count:
            logger.warning(
                "%d steps since the last log were left out, the first of them step %d: its loss is %s and its gradient "
                "norm %s (on_nonfinite='skip').",
                int(count), int(step), loss, norm,
            )  # fmt: skip


def select_guard(
    policy: NonFinitePolicy,
    optimizer: Optimizer,
    precision: Precision,
    strategy: Strategy,
    locate: Callable[[int], list[int] | None],
) -> HostGuard:
    """The guard that needs no waiting where there is one for this device and optimizer."""
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    kernel_decides = strategy.device.type != "cpu" and fused and not precision.overflow_is_normal
    return (DeviceGuard if kernel_decides else HostGuard)(policy, precision, strategy, locate)


def _shown(loss: torch.Tensor, norm: torch.Tensor) -> tuple[float, float]:
    return float(loss), float(norm)
