"""Showing where a run is in a notebook: a bar and a table of the evaluations, in one place."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

from etude.core.events import TrainerCallback
from etude.core.names import IntervalStrategy
from etude.core.state import TrainerControl, TrainerState
from etude.optional import require
from etude.report.history import evaluations
from etude.report.text import duration, value

REDRAW_INTERVAL = 0.5  # seconds: notebooks keep every picture that they are sent
MOST_ROWS = 100


class NotebookProgressCallback(TrainerCallback):
    """A bar, and below it a row for each evaluation, or for each logged loss where there are none."""

    same_on_all_processes = True

    def __init__(self) -> None:
        self._view: Any = None
        self._table = ""
        self._batches = 0  # of the evaluation in progress
        self._began, self._first_step, self._drawn = 0.0, 0, 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._began, self._first_step = time.monotonic(), state.global_step
            self._view, self._table = None, ""
            self._draw(_bar(state, 0.0, 0))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._view is not None and self._is_due():
            self._draw(self._training(state))

    def on_prediction_step(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        self._batches += 1
        if state.is_world_process_zero and self._is_due():
            self._draw(f"{self._training(state)}<p>evaluation: batch {self._batches}</p>")

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if self._view is not None and logs and "loss" in logs and args.eval_strategy == IntervalStrategy.NO:
            losses = [row for row in state.log_history[-MOST_ROWS:] if "loss" in row]
            self._table = table([{"Step": row["step"], "Training Loss": row["loss"]} for row in losses])
            self._draw(self._training(state))

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        self._batches = 0
        if state.is_world_process_zero:
            self._table = table(evaluations(state.log_history)[-MOST_ROWS:])
            self._draw(self._training(state))

    def on_predict(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        self._batches = 0

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._view is not None:
            self._draw(self._training(state))
            self._view = None

    def _training(self, state: TrainerState) -> str:
        """The bar of the training in progress; nothing outside of one."""
        if not self._began:
            return ""
        return _bar(state, time.monotonic() - self._began, state.global_step - self._first_step)

    def _is_due(self) -> bool:
        return time.monotonic() - self._drawn >= REDRAW_INTERVAL

    def _draw(self, above: str) -> None:
        display = require("IPython.display", "NotebookProgressCallback", install="ipython")
        picture = display.HTML(f"<div>{above}{self._table}</div>")
        if self._view is None:
            self._view = display.display(picture, display_id=True)
        else:
            self._view.update(picture)
        self._drawn = time.monotonic()


def _bar(state: TrainerState, seconds: float, done: int) -> str:
    """The bar, and what it says beside it."""
    text = f"step {state.global_step:,} of {state.max_steps:,}, epoch {state.epoch or 0:.2f}, {duration(seconds)}"
    if done and state.global_step < state.max_steps:
        text += f", {duration(seconds / done * (state.max_steps - state.global_step))} to go"
    return f'<progress value="{state.global_step}" max="{state.max_steps}"></progress> {text}'


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as an HTML table, with a column for each name that any of them has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in columns) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(item: Any) -> str:
    return "" if item is None else html.escape(value(item))


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if get_ipython is None else get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
