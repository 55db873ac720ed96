"""One architecture under étude, and beside the reference."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from etude.core.signature import count_parameters
from tests import helpers
from tests.architectures.architecture import ASPECTS, Architecture
from tests.parity.runner import LIBRARIES

NUM_EVALUATED = 3  # the last batch is smaller
RELATIVE = 1e-4  # single precision, over a forward and backward of a few layers


@dataclass
class Outcome:
    """What a run leaves behind.

    Attributes:
        parameters: how many the tiny model has.
        rows: the log rows of the updates: loss and gradient norm.
        before: metrics of an evaluation before the training.
        after: metrics of one after it.
        predictions: what ``predict`` gives afterwards.
        weights: those of the beginning and those of the end.
        model: the trained model.
    """

    parameters: int
    rows: list[dict[str, float]]
    before: dict[str, float]
    after: dict[str, float]
    predictions: Any
    weights: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
    model: Any


def build_trainer(lib: ModuleType, architecture: Architecture, folder: Path, **arguments: Any) -> Any:
    """A ``Trainer`` of ``lib`` with batches of two samples, for two updates."""
    model = architecture.make()
    for name, value in architecture.told.items() if lib.__name__ == "transformers" else ():
        setattr(model, name, value)
    sizes = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "max_steps": 2}
    fields = {**sizes, "learning_rate": 1e-3, **architecture.arguments, **arguments}
    return lib.Trainer(
        model=model,
        args=helpers.training_arguments(lib, folder, **fields),
        data_collator=architecture.collator,
        train_dataset=architecture.samples(8, seed=1),
        eval_dataset=architecture.samples(NUM_EVALUATED, seed=2),
    )


def train(architecture: Architecture, folder: Path) -> Outcome:
    """Two updates of two micro-batches under étude, with an evaluation before and after."""
    with helpers.library("etude") as lib:
        if architecture.warns is not None:
            warnings.filterwarnings("ignore", message=architecture.warns)
        trainer = build_trainer(lib, architecture, folder, gradient_accumulation_steps=2)
        first = helpers.weights_of(trainer.model)
        before = trainer.evaluate()
        trainer.train()
        after = trainer.evaluate()
        return Outcome(
            parameters=count_parameters(trainer.model),
            rows=[row for row in trainer.state.log_history if "grad_norm" in row],
            before=before,
            after=after,
            predictions=trainer.predict(architecture.samples(NUM_EVALUATED, seed=2)).predictions,
            weights=(first, helpers.weights_of(trainer.model)),
            model=trainer.model,
        )


def differences(architecture: Architecture, folder: Path) -> dict[str, str]:
    """Which of ``ASPECTS`` are not as in the reference, and in what way.

    Without accumulation, where the reference would take a mean for a sum (docs/differences.md).
    """
    gc.freeze()  # the reference collects garbage in every training, which takes long with so many modules loaded
    try:
        seen = {name: _aspects(name, architecture, folder / name) for name in LIBRARIES}
    finally:
        gc.unfreeze()
    found: dict[str, str] = {}
    for aspect in ASPECTS:
        ours, theirs = seen["etude"].get(aspect), seen["transformers"].get(aspect)
        if isinstance(theirs, Exception):
            found[aspect] = f"{type(theirs).__name__}: {theirs}"
            continue
        try:
            _assert_same(aspect, ours, theirs)
        except AssertionError as error:
            found[aspect] = str(error)
    return found


def _aspects(name: str, architecture: Architecture, folder: Path) -> dict[str, Any]:
    """The aspects of one run; from where the reference fails on, its error."""
    seen: dict[str, Any] = {}
    with helpers.library(name) as lib:
        if architecture.warns is not None:
            warnings.filterwarnings("ignore", message=architecture.warns)
        try:
            trainer = build_trainer(lib, architecture, folder)
            trainer.train()
            rows = [row for row in trainer.state.log_history if "grad_norm" in row]
            seen["training"] = [(row["loss"], row["grad_norm"]) for row in rows]
            seen["evaluation"] = trainer.evaluate()["eval_loss"]
            output = trainer.predict(architecture.samples(NUM_EVALUATED, seed=2))
            seen["predictions"] = (output.predictions, output.label_ids)
        except Exception as error:
            if name == "etude":
                raise
            seen = {aspect: seen.get(aspect, error) for aspect in ASPECTS}
    return seen


def _assert_same(aspect: str, ours: Any, theirs: Any) -> None:
    if aspect == "predictions":
        helpers.assert_same_arrays(ours, theirs, relative=RELATIVE)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=1e-7)


def arrays(value: Any) -> Iterator[np.ndarray]:
    """All arrays inside a nesting."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from arrays(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from arrays(item)
