"""The parts of a training, put together by the Trainer and used by the loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from etude.checkpoint.writer import CheckpointWriter
from etude.core.progress import Progress
from etude.core.state import Plan, TrainerControl, TrainerState
from etude.data.tokens import TokenCounter
from etude.data.waiting import DataWait
from etude.guards.nonfinite import HostGuard
from etude.guards.preempt import Interruptions
from etude.loops.accumulate import Accumulation
from etude.precision import Precision
from etude.strategies.base import Strategy


class Hooks(Protocol):
    """What the loops call on the Trainer: the methods that users override, and the state that they see."""

    args: Any
    state: TrainerState
    control: TrainerControl
    callback_handler: Any
    current_gradient_accumulation_steps: int

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of one update, and the number of items that they count for."""
        ...

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of one micro-batch; returns its detached part of the loss."""
        ...

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Files one row."""
        ...

    def floating_point_ops(self, inputs: Any) -> int: ...

    def store_flos(self) -> None: ...

    def _track_num_input_tokens(self, inputs: Any) -> None: ...

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False
    ) -> dict[str, float]: ...

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool: ...

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None: ...

    def _get_learning_rate(self) -> float: ...

    def _load_rng_state(self, checkpoint: str | None) -> None: ...


@dataclass(frozen=True)
class LoopSettings:
    """What the loop has to know of the arguments.

    Attributes:
        accumulation_steps: micro-batches of each process in one update.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them.
        evaluate_first: evaluate before the first step.
        save_best: a checkpoint is due whenever an evaluation is the best so far, and only then.
        skip_data: a resumed epoch goes on where it was interrupted, rather than at its start.
        ignore_keys: outputs that evaluations leave out.
        empty_cache_steps: updates between two returns of unused memory to the device; None: never.
    """

    accumulation_steps: int
    max_grad_norm: float
    evaluate_first: bool
    save_best: bool
    skip_data: bool
    ignore_keys: list[str] | None
    empty_cache_steps: int | None = None


@dataclass
class ResumePoint:
    """An interrupted epoch: its random states when it began and when the checkpoint was written, and its place."""

    checkpoint: str
    at_epoch_start: dict[str, Any] | None
    at_checkpoint: dict[str, Any] | None
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class Overrides:
    """What a subclass of the Trainer does itself; found out once, so that nothing else pays for it.

    Attributes:
        clip: clips the gradients and returns their norm.
        due: logs, evaluates and saves.
        track_tokens: count tokens although the arguments do not ask for it.
    """

    clip: Callable[[Run], torch.Tensor] | None = None
    due: Callable[[Run], None] | None = None
    track_tokens: bool = False


@dataclass
class Run:
    """Everything that one call of `train` works with.

    Attributes:
        budgeted: whether an item of the loader holds several micro-batches (`max_tokens_per_batch`).
        taken: items of the loader in the update in progress.
    """

    hooks: Hooks
    settings: LoopSettings
    plan: Plan
    strategy: Strategy
    precision: Precision
    accumulation: Accumulation
    guard: HostGuard
    model: nn.Module
    optimizer: Optimizer
    scheduler: Any
    loader: Any
    progress: Progress
    writer: CheckpointWriter
    tokens: TokenCounter | None = None
    overrides: Overrides = Overrides()
    interruptions: Interruptions = field(default_factory=Interruptions)
    waiting: DataWait = field(default_factory=DataWait)
    resume: ResumePoint | None = None
    start_time: float = 0.0
    first_step: int = 0
    first_tokens: int = 0
    budgeted: bool = False
    taken: int = 0
    saved_step: int | None = None

    batches: Iterator[Any] = field(default_factory=lambda: iter(()))
    epoch_random: dict[str, Any] = field(default_factory=dict)
    parameters: list[nn.Parameter] = field(default_factory=list)

    @property
    def counts_tokens(self) -> bool:
        """Whether the Trainer is shown each micro-batch to count its tokens."""
        return self.tokens is not None or self.overrides.track_tokens

    def fire(self, event: str) -> None:
        """Lets the callbacks hear an event; they may replace the control object."""
        hooks = self.hooks
        hooks.control = getattr(hooks.callback_handler, event)(hooks.args, hooks.state, hooks.control)

    def agree(self) -> None:
        """Makes what callbacks asked for on any process hold on all of them."""
        if self.strategy.world.size == 1 or not self.hooks.callback_handler.may_differ_between_processes():
            return
        control = self.hooks.control
        names = ("should_training_stop", "should_epoch_stop", "should_save", "should_evaluate", "should_log")
        for name, flag in zip(names, self.strategy.agree([getattr(control, n) for n in names]), strict=True):
            setattr(control, name, flag)
