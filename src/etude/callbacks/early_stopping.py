"""Stopping when evaluations no longer improve."""

from __future__ import annotations

import logging
import math
from typing import Any

from etude.core.events import TrainerCallback
from etude.core.names import IntervalStrategy
from etude.core.state import ExportableState, TrainerControl, TrainerState

logger = logging.getLogger(__name__)


class EarlyStoppingCallback(TrainerCallback, ExportableState):
    """Stops training when `metric_for_best_model` has not improved for a while.

    Args:
        early_stopping_patience: number of evaluations without improvement after which training stops.
        early_stopping_threshold: how much the metric must change to count as improved.
    """

    same_on_all_processes = True

    def __init__(
        self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0
    ) -> None:
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold or 0.0
        self.early_stopping_patience_counter = 0

    def check_metric_value(
        self, args: Any, state: TrainerState, control: TrainerControl, metric_value: float
    ) -> None:
        """Counts an evaluation: back to 0 where it improved on the best so far, else one more."""
        best = state.best_metric
        change = math.inf if best is None else metric_value - best
        if not args.greater_is_better and best is not None:
            change = -change
        if best is None or change > max(0.0, self.early_stopping_threshold):
            self.early_stopping_patience_counter = 0
        else:
            self.early_stopping_patience_counter += 1

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not args.load_best_model_at_end:
            logger.warning(
                "EarlyStoppingCallback without `load_best_model_at_end`: the model will be the last one, not the best."
            )
        # The reference asserts these two, and `except AssertionError` must go on working.
        if args.metric_for_best_model is None:
            raise AssertionError("EarlyStoppingCallback requires `metric_for_best_model` to be set.")
        if args.eval_strategy == IntervalStrategy.NO:
            raise AssertionError("EarlyStoppingCallback requires `eval_strategy` to be 'steps' or 'epoch'.")

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        name = args.metric_for_best_model
        name = name if name.startswith("eval_") else f"eval_{name}"
        value = metrics.get(name)
        if value is None:
            logger.warning("Early stopping has nothing to go by: this evaluation has no %s.", name)
            return
        self.check_metric_value(args, state, control, value)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def state(self) -> dict[str, Any]:
        return {
            "args": {
                "early_stopping_patience": self.early_stopping_patience,
                "early_stopping_threshold": self.early_stopping_threshold,
            },
            "attributes": {"early_stopping_patience_counter": self.early_stopping_patience_counter},
        }
