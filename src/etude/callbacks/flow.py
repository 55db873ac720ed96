"""The callback that says when to log, evaluate, save and stop, by the arguments."""

from __future__ import annotations

from typing import Any

from etude.core.events import TrainerCallback
from etude.core.names import IntervalStrategy, SaveStrategy
from etude.core.state import TrainerControl, TrainerState


class DefaultFlowCallback(TrainerCallback):
    """Sets the flags of `control` that the arguments ask for."""

    same_on_all_processes = True

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        step = state.global_step
        if args.logging_strategy == IntervalStrategy.STEPS and state.logging_steps > 0:
            control.should_log |= step % state.logging_steps == 0
        if step == 1 and args.logging_first_step:
            control.should_log = True
        if args.eval_strategy == IntervalStrategy.STEPS and args.eval_delay <= step:
            control.should_evaluate |= step % state.eval_steps == 0
        if args.save_strategy == SaveStrategy.STEPS and state.save_steps > 0:
            control.should_save |= step % state.save_steps == 0
        if step >= state.max_steps:
            self._finish(args, state, control)
        return control

    def _finish(self, args: Any, state: TrainerState, control: TrainerControl) -> None:
        """The last step is evaluated and saved even where it is between two multiples."""
        control.should_training_stop = True
        if args.eval_strategy == IntervalStrategy.STEPS and args.eval_delay <= state.global_step:
            control.should_evaluate = True
        if args.save_strategy == SaveStrategy.STEPS:
            control.should_save = True

    def on_epoch_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        epoch = state.epoch or 0.0
        if args.logging_strategy == IntervalStrategy.EPOCH:
            control.should_log = True
        if args.eval_strategy == IntervalStrategy.EPOCH and args.eval_delay <= epoch:
            control.should_evaluate = True
        if args.save_strategy == SaveStrategy.EPOCH:
            control.should_save = True
        return control
