"""Adafactor: second moments of matrices kept as a row and a column (Shazeer and Stern, 2018, arXiv:1804.04235)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from etude.errors import ConfigurationError

HALF = (torch.float16, torch.bfloat16)


class Adafactor(Optimizer):
    """Adaptive steps with little memory. Not `torch.optim.Adafactor`, whose rule of update is another one.

    With the defaults it chooses its own learning rate. For one that is given, and moved by a schedule:
    `Adafactor(parameters, lr=1e-3, scale_parameter=False, relative_step=False)`.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate; only with `relative_step=False`.
        eps: what is added to squared gradients, and the smallest root mean square of a parameter that scales its step.
        clip_threshold: largest root mean square of a step before the learning rate.
        decay_rate: power of the step at which the memory of squared gradients lengthens.
        beta1: decay of a first moment; None for none.
        weight_decay: decoupled weight decay.
        scale_parameter: scale each step with the root mean square of its parameter.
        relative_step: a learning rate from the number of steps, instead of `lr`.
        warmup_init: begin that one near 0.

    Raises:
        ConfigurationError: `lr` together with `relative_step`, or `warmup_init` without it.
    """

    def __init__(
        self,
        params: Any,
        lr: float | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        beta1: float | None = None,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
    ) -> None:
        if lr is not None and relative_step:
            raise ConfigurationError(
                "Adafactor chooses its own learning rate with `relative_step=True`: leave out `lr`, or set "
                "`relative_step=False`."
            )
        if warmup_init and not relative_step:
            raise ConfigurationError("Adafactor: `warmup_init=True` requires `relative_step=True`.")
        defaults = {
            "lr": lr,
            "eps": eps,
            "clip_threshold": clip_threshold,
            "decay_rate": decay_rate,
            "beta1": beta1,
            "weight_decay": weight_decay,
            "scale_parameter": scale_parameter,
            "relative_step": relative_step,
            "warmup_init": warmup_init,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            raise ConfigurationError("Adafactor does not support sparse gradients.")
        gradient = gradient.float() if gradient.dtype in HALF else gradient
        weights = parameter.float() if parameter.dtype in HALF else parameter
        state = self._state_of(parameter, gradient, group)
        state["step"] += 1
        if group["scale_parameter"]:
            state["RMS"] = _root_mean_square(weights)
        rate = self._get_lr(group, state)

        update = _normalised(gradient, state, group)
        update.div_((_root_mean_square(update) / group["clip_threshold"]).clamp_(min=1.0)).mul_(rate)
        if group["beta1"] is not None:
            update = state["exp_avg"].mul_(group["beta1"]).add_(update, alpha=1 - group["beta1"])
        if group["weight_decay"] != 0:
            weights.sub_(weights * (group["weight_decay"] * rate))
        weights.sub_(update)
        if weights is not parameter:
            parameter.copy_(weights)

    def _state_of(
        self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]
    ) -> dict[str, Any]:
        """The state of a parameter, made at its first step and otherwise in the gradient's number format."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            shape = gradient.shape
            state["step"] = 0
            if group["beta1"] is not None:
                state["exp_avg"] = torch.zeros_like(gradient)
            if gradient.dim() >= 2:
                state["exp_avg_sq_row"] = gradient.new_zeros(shape[:-1])
                state["exp_avg_sq_col"] = gradient.new_zeros(shape[:-2] + shape[-1:])
            else:
                state["exp_avg_sq"] = torch.zeros_like(gradient)
        for name, value in state.items():
            if name.startswith("exp_avg"):
                state[name] = value.to(gradient)  # reading a checkpoint gives it the format of the parameter
        return state

    @staticmethod
    def _get_lr(group: dict[str, Any], state: dict[str, Any]) -> Any:
        """The learning rate of a parameter; a 0-dimensional tensor where it is scaled."""
        rate = group["lr"]
        if group["relative_step"]:
            highest = 1e-6 * state["step"] if group["warmup_init"] else 1e-2
            rate = min(highest, 1.0 / math.sqrt(state["step"]))
        return state["RMS"].clamp(min=group["eps"][1]) * rate if group["scale_parameter"] else rate


def _normalised(gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    """The gradient divided by the root of its second moment, which is moved on."""
    keep = 1.0 - math.pow(state["step"], group["decay_rate"])
    square = gradient.square().add_(group["eps"][0])
    if gradient.dim() < 2:
        moment = state["exp_avg_sq"].mul_(keep).add_(square, alpha=1.0 - keep)
        return moment.rsqrt().mul_(gradient)  # type: ignore[no-any-return]
    row = state["exp_avg_sq_row"].mul_(keep).add_(square.mean(dim=-1), alpha=1.0 - keep)
    column = state["exp_avg_sq_col"].mul_(keep).add_(square.mean(dim=-2), alpha=1.0 - keep)
    row_factor = (row / row.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
    return (row_factor * column.rsqrt().unsqueeze(-2)).mul_(gradient)  # type: ignore[no-any-return]


def _root_mean_square(tensor: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(tensor)
    return norm / math.sqrt(tensor.numel())


class AdafactorSchedule(LambdaLR):
    """Shows the learning rates that an `Adafactor` with `relative_step=True` chooses, for a loop that logs them.

    Args:
        optimizer: the Adafactor.
        initial_lr: what is shown before the first step.
    """

    def __init__(self, optimizer: Optimizer, initial_lr: float = 0.0) -> None:
        for group in optimizer.param_groups:
            group["initial_lr"] = initial_lr
        super().__init__(optimizer, lambda _: initial_lr)
        for group in optimizer.param_groups:
            del group["initial_lr"]

    def get_lr(self) -> list[Any]:
        optimizer: Any = self.optimizer
        first = [(group, group["params"][0]) for group in optimizer.param_groups]
        rates = [optimizer._get_lr(group, optimizer.state[p]) for group, p in first if p.grad is not None]
        return rates or self.base_lrs


def get_adafactor_schedule(optimizer: Optimizer, initial_lr: float = 0.0) -> AdafactorSchedule:
    """An `AdafactorSchedule`."""
    return AdafactorSchedule(optimizer, initial_lr)
