"""Optimizers that move each weight inside the backward pass, as soon as its gradient is there, and free the gradient.

The gradients of all weights are then never in memory at once. What looks at all of them together cannot be had:
accumulation, clipping, several processes, loss scaling, and leaving out an update that is not finite.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from etude.core.names import NonFinitePolicy
from etude.errors import ConfigurationError
from etude.optim.recipe import Request

LAYERWISE = "_layerwise"


def refuse_what_needs_all_gradients(request: Request) -> None:
    """Arguments that would have no effect are an error.

    Raises:
        ConfigurationError: one of them is on.
    """
    args, name = request.args, request.name
    conflicts = {
        "does not support several processes: start one": args.world_size > 1,
        "does not support gradient accumulation: set `gradient_accumulation_steps=1`": (
            args.gradient_accumulation_steps != 1
        ),
        "cannot clip gradients: set `max_grad_norm=0`": args.max_grad_norm > 0,
        "does not support loss scaling: use `bf16` instead of `fp16`": args.fp16,
        "cannot hold back an update that is not finite: set `on_nonfinite='log'`": (
            args.on_nonfinite != NonFinitePolicy.LOG
        ),
    }
    for reason in (text for text, conflict in conflicts.items() if conflict):
        raise ConfigurationError(f"optim='{name}' moves the weights inside the backward pass and {reason}.")


def moving_in_backward(cls: type[Optimizer]) -> type[Optimizer]:
    """The optimizer class `cls`, stepping parameter by parameter while gradients come in.

    Groups, schedules and checkpoints are those of `cls`; its `step` has nothing left to do.
    """

    class Layerwise(cls):  # type: ignore[valid-type,misc]
        param_groups: list[dict[str, Any]]

        def __init__(self, params: Any, **options: Any) -> None:
            super().__init__(params, **options)
            for index, group in enumerate(self.param_groups):
                for parameter in group["params"]:
                    parameter.register_post_accumulate_grad_hook(_hook(self, index))

        def _move(self, index: int, parameter: torch.Tensor) -> None:
            """One step of `cls` for one parameter."""
            everything = self.param_groups
            self.param_groups = [{**everything[index], "params": [parameter]}]
            try:
                super().step()
            finally:
                self.param_groups = everything
            parameter.grad = None

        def step(self, closure: Any = None) -> None:
            """Does nothing: the weights have moved."""

    Layerwise.__name__ = Layerwise.__qualname__ = f"Layerwise{cls.__name__}"
    return Layerwise


def _hook(optimizer: Any, index: int) -> Callable[[torch.Tensor], None]:
    """Moves a parameter of a group, for as long as the optimizer exists."""
    weak = weakref.ref(optimizer)

    def move(parameter: torch.Tensor) -> None:
        alive = weak()
        if alive is not None:
            alive._move(index, parameter)

    return move
