"""What training, evaluation and prediction hand to the user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np


class EvalPrediction:
    """What `compute_metrics` receives: can be unpacked, indexed, or read by name.

    Attributes:
        predictions: the model's outputs, without the loss: an array of shape [samples, ...] or a tuple of such.
        label_ids: the labels, likewise, or None.
        inputs: the model's main input, where `include_for_metrics` has "inputs".
        losses: the loss of each sample's batch, where `include_for_metrics` has "loss".
    """

    def __init__(self, predictions: Any, label_ids: Any, inputs: Any = None, losses: Any = None) -> None:
        self.predictions = predictions
        self.label_ids = label_ids
        self.inputs = inputs
        self.losses = losses
        self.elements: tuple[Any, ...] = (predictions, label_ids)
        if inputs is not None:
            self.elements += (inputs,)
        if losses is not None:
            self.elements += (losses,)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.elements)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self.elements):
            raise IndexError(f"EvalPrediction has {len(self.elements)} elements, there is no element {index}")
        return self.elements[index]


class EvalLoopOutput(NamedTuple):
    """What `Trainer.evaluation_loop` returns."""

    predictions: np.ndarray | tuple[Any, ...] | None
    label_ids: np.ndarray | tuple[Any, ...] | None
    metrics: dict[str, float] | None
    num_samples: int | None


class PredictionOutput(NamedTuple):
    """What `Trainer.predict` returns."""

    predictions: np.ndarray | tuple[Any, ...]
    label_ids: np.ndarray | tuple[Any, ...] | None
    metrics: dict[str, float] | None


class TrainOutput(NamedTuple):
    """What `Trainer.train` returns.

    Attributes:
        global_step: number of optimizer updates since the start of the run.
        training_loss: mean loss of those updates.
        metrics: run time, speed and loss, as logged at the end.
    """

    global_step: int
    training_loss: float
    metrics: dict[str, float]
