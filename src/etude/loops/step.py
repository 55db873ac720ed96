"""One update of the weights, from the micro-batches of one global batch. Read `update` from top to bottom."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from etude.errors import ModelOutputError
from etude.loops.accumulate import Accumulation
from etude.loops.run import Run
from etude.precision import Precision


def update(run: Run, batches: list[Any], num_items: Any, spare: int) -> None:
    """Moves the weights once.

    Args:
        run: the parts.
        batches: the micro-batches of this process.
        num_items: number of items of the global batch, for models that divide by it.
        spare: how many of the last micro-batches count for nothing.
    """
    hooks = run.hooks
    run.fire("on_step_begin")
    run.accumulation.begin(batches, spare)
    hooks.current_gradient_accumulation_steps = len(batches)
    losses = []
    for index, inputs in enumerate(batches, start=1):
        last = index == len(batches)
        with run.strategy.synchronize(run.model, last):
            losses.append(hooks.training_step(run.model, inputs, num_items))
        run.progress.flops += hooks.floating_point_ops(inputs)
        if run.counts_tokens and index <= len(batches) - spare:
            hooks._track_num_input_tokens(inputs)
        run.accumulation.advance()
        if not last:
            run.fire("on_substep_end")
    run.progress.micro_steps += run.taken
    loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    run.precision.unscale(run.optimizer)
    run.progress.grad_norm = norm = clipped(run)
    run.fire("on_pre_optimizer_step")
    schedule_moves = run.guard.step(run.optimizer, loss, norm, hooks.state.global_step + 1)
    run.fire("on_optimizer_step")

    run.progress.learning_rate = hooks._get_learning_rate()
    if schedule_moves:
        run.scheduler.step()
    for parameter in run.parameters:
        parameter.grad = None
    run.progress.add_loss(loss)
    hooks.state.global_step += 1
    hooks.state.epoch = run.progress.epoch + run.progress.micro_steps / run.plan.epoch_length
    run.fire("on_step_end")
    run.agree()


def clipped(run: Run) -> torch.Tensor:
    """Clips the gradients of the run, in a subclass's way where there is one, and returns their norm before that."""
    if run.overrides.clip is not None:
        return run.overrides.clip(run)
    return clip(run.parameters, run.settings.max_grad_norm)


def clip(parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scales the gradients down to a total norm of `max_norm`, if that is above 0.

    Returns:
        Their norm before that, a 0-dimensional tensor on the device.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    try:
        norms = torch._foreach_norm(gradients)
    except (
        NotImplementedError,
        RuntimeError,
    ):  # sparse ones, or on several devices: PyTorch sorts them first
        return clip_grad_norm_(parameters, max_norm if max_norm > 0 else math.inf)
    # the same operations as clip_grad_norm_, without its sorting by device and number format
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    if max_norm > 0:
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp_(max=1.0))
    return norm


def current_learning_rate(run: Run) -> float:
    """The learning rate of the first parameter group, as the next step will use it."""
    rate = run.scheduler.get_last_lr()[0]
    return float(rate)


def forward_backward(
    trainer: Any,
    accumulation: Accumulation,
    precision: Precision,
    model: nn.Module,
    inputs: Any,
    num_items: Any,
    is_divided: bool | None,
    context: AbstractContextManager[Any],
) -> torch.Tensor:
    """Forward and backward of one micro-batch.

    Args:
        trainer: whose `compute_loss` is called.
        inputs: the prepared batch.
        num_items: number of items of the global batch, or None.
        is_divided: whether the loss is divided by it; None: find out.
        context: in which the loss is computed.

    Returns:
        Its detached part of the loss of the global batch.
    """
    count = accumulation.watch(num_items)
    with context:
        loss = trainer.compute_loss(model, inputs, num_items_in_batch=count)
    if loss.numel() != 1 or not loss.requires_grad:
        raise no_gradient_from(loss)
    divided = accumulation.is_divided(count) if is_divided is None else is_divided
    part = accumulation.weigh(loss, divided)
    precision.scale(part).backward()  # type: ignore[no-untyped-call]
    return part.detach()


def no_gradient_from(loss: torch.Tensor) -> ModelOutputError:
    """Why backward cannot start from this loss."""
    if loss.numel() != 1:
        return ModelOutputError(
            f"The loss should be one number, it has the shape {tuple(loss.shape)}: return its mean."
        )
    return ModelOutputError(
        "The loss has no gradient: either it was detached, or no parameter that it comes from has `requires_grad`. "
        "Where only adapters are trained, `model.enable_input_require_grads()` helps."
    )
