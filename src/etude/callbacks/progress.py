"""Showing where a run is: a bar on a terminal, a line for each logged row elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

from etude.core.events import TrainerCallback
from etude.core.state import TrainerControl, TrainerState
from etude.report.text import rate_text, row, value


class ProgressCallback(TrainerCallback):
    """One bar that stays on one line, with the last loss, learning rate and the samples per second.

    Args:
        max_str_len: logged texts longer than this are not shown.
    """

    same_on_all_processes = True

    def __init__(self, max_str_len: int = 100) -> None:
        self.max_str_len = max_str_len
        self.training_bar: Any = None
        self.prediction_bar: Any = None
        self._samples_per_step = 0
        self._shown: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self._samples_per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._shown = {}
        self.training_bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="train", dynamic_ncols=True, unit="step"
        )

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.training_bar is not None:
            self.training_bar.update(state.global_step - self.training_bar.n)

    def on_prediction_step(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero:
            return
        if self.prediction_bar is None:
            total = (
                len(eval_dataloader)
                if hasattr(eval_dataloader, "batch_sampler") and _sized(eval_dataloader)
                else None
            )
            below = self.training_bar is not None
            self.prediction_bar = tqdm(
                total=total,
                leave=not below,
                position=int(below),
                desc="evaluate",
                dynamic_ncols=True,
                unit="batch",
            )
        self.prediction_bar.update(1)

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._close_prediction_bar()

    def on_predict(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        self._close_prediction_bar()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or self.training_bar is None or not logs:
            return
        if "loss" in logs:
            rate = self.training_bar.format_dict.get("rate") or 0.0
            self._shown = {"loss": value(logs["loss"]), "lr": value(logs.get("learning_rate"))}
            if rate:
                self._shown["samples/s"] = rate_text(rate * self._samples_per_step)
            self.training_bar.set_postfix(self._shown)
        else:
            self.training_bar.write(
                row(logs, state.global_step, state.max_steps, self.max_str_len), file=sys.stderr
            )

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.training_bar is not None:
            self.training_bar.close()
            self.training_bar = None

    def _close_prediction_bar(self) -> None:
        if self.prediction_bar is not None:
            self.prediction_bar.close()
            self.prediction_bar = None


class PrinterCallback(TrainerCallback):
    """Prints each logged row on a line of its own, for runs without a terminal."""

    same_on_all_processes = True

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        prints = state.is_world_process_zero or (state.is_local_process_zero and args.log_on_each_node)
        if prints and logs:
            print(row(logs, state.global_step, state.max_steps), file=sys.stderr, flush=True)


def _sized(loader: Any) -> bool:
    try:
        len(loader)
    except TypeError:
        return False
    return True


def shows_bar(disable_tqdm: bool | None) -> bool:
    """Whether there is to be a bar: as asked for, else where standard error is a terminal or a notebook."""
    if disable_tqdm is not None:
        return not disable_tqdm
    return sys.stderr.isatty() or "ipykernel" in sys.modules
