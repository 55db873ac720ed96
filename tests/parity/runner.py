"""Run one case under a library and keep all that a user can see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from tests import helpers

LIBRARIES = ("transformers", "etude")


@dataclass(frozen=True)
class Case:
    """A model, its data and its arguments.

    Attributes:
        model: builds the model, after the seed is set.
        train_rows: builds the training set.
        eval_rows: builds the evaluation set.
        arguments: fields of ``TrainingArguments`` that differ from the defaults of the helpers.
        collator: the collator, or None for the default one of the library.
        compute_metrics: the metric function, or None.
        told: attributes that the model gets under the reference only, for what the reference cannot find out.
        trainer_options: further arguments of the ``Trainer``.
    """

    name: str
    model: Callable[[], nn.Module]
    train_rows: Callable[[], Dataset]
    eval_rows: Callable[[], Dataset]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    collator: Callable[..., Any] | None = None
    compute_metrics: Callable[..., Any] | None = helpers.accuracy
    told: Mapping[str, Any] = field(default_factory=dict)
    trainer_options: Mapping[str, Any] = field(default_factory=dict)

    def having(self, name: str = "", **arguments: Any) -> Case:
        """The same case with further training arguments."""
        return replace(self, name=f"{self.name}-{name}", arguments={**self.arguments, **arguments})

    def __str__(self) -> str:
        return self.name


@dataclass
class Outcome:
    """What a run leaves behind."""

    trainer: Any
    output: Any
    log_history: list[dict[str, Any]]
    weights: dict[str, torch.Tensor]


def build_trainer(
    lib: ModuleType, case: Case, output_dir: Path, trainer_class: Any = None, **options: Any
) -> Any:
    """A ``Trainer`` of ``lib`` for ``case``."""
    torch.manual_seed(11)
    model = case.model()
    for name, value in case.told.items() if lib.__name__ == "transformers" else ():
        setattr(model, name, value)
    return (trainer_class or lib.Trainer)(
        model=model,
        args=helpers.training_arguments(lib, output_dir, **case.arguments),
        data_collator=case.collator,
        train_dataset=case.train_rows(),
        eval_dataset=case.eval_rows(),
        compute_metrics=case.compute_metrics,
        **{**case.trainer_options, **options},
    )


def run(name: str, case: Case, output_dir: Path, resume: str | None = None, **options: Any) -> Outcome:
    """Train ``case`` under the library ``name``."""
    with helpers.library(name) as lib:
        trainer = build_trainer(lib, case, output_dir / name, **options)
        output = trainer.train(resume_from_checkpoint=resume)
    return Outcome(trainer, output, list(trainer.state.log_history), helpers.weights_of(trainer.model))


def run_both(case: Case, output_dir: Path) -> tuple[Outcome, Outcome]:
    """Train ``case`` under the reference and under étude."""
    theirs, ours = (run(name, case, output_dir) for name in LIBRARIES)
    return theirs, ours


def assert_same_rows(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], relative: float = 1e-5
) -> None:
    """Log rows have the same keys in all rows, and the same numbers where the clock plays no part."""
    assert [sorted(row) for row in ours] == [sorted(row) for row in theirs]
    our_rows, their_rows = helpers.without_timing(ours), helpers.without_timing(theirs)
    for mine, reference in zip(our_rows, their_rows, strict=True):
        assert mine == pytest.approx(dict(reference), rel=relative, abs=1e-9), (
            f"row of step {reference['step']}"
        )


def assert_same_weights(
    ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], relative: float = 1e-5
) -> None:
    """Weights are equal as a whole and, by their own size, tensor by tensor."""
    assert helpers.relative_difference(ours, theirs) <= relative
    for name, reference in theirs.items():
        torch.testing.assert_close(
            ours[name], reference, rtol=relative, atol=relative, msg=lambda m, n=name: f"{n}: {m}"
        )


# A model such as BERT takes ``**kwargs`` and ignores ``num_items_in_batch``; the reference then forgets to divide its
# loss by the number of accumulated micro-batches, unless it is told that the model returns a mean of its own.
RETURNS_MEAN = {"accepts_loss_kwargs": False}
# The reference tells a causal language model by the name of its class, and GPT-2 is not called ``...ForCausalLM``: it
# then divides by the number of all labels, also of the first of each row, which no position predicts.
IS_CAUSAL = {"loss_type": "ForCausalLM"}
BERT = Case(
    "bert",
    helpers.bert_classifier,
    lambda: helpers.text_rows(24, seed=1),
    lambda: helpers.text_rows(19, seed=2),
    collator=helpers.pad_texts,
    told=RETURNS_MEAN,
)
GPT2 = Case(
    "gpt2",
    helpers.gpt2_model,
    lambda: helpers.sequence_rows(24, seed=1),
    lambda: helpers.sequence_rows(19, seed=2),
    collator=helpers.pad_texts,
    told=IS_CAUSAL,
)
DICT = Case(
    "dict",
    helpers.DictClassifier,
    lambda: helpers.feature_rows(24, seed=1),
    lambda: helpers.feature_rows(19, seed=2),
)
TUPLE = replace(DICT, name="tuple", model=helpers.TupleClassifier)
FAMILIES = (BERT, GPT2, DICT, TUPLE)
WITH_DROPOUT = (
    replace(BERT, model=lambda: helpers.bert_classifier(dropout=0.1)),
    replace(GPT2, model=lambda: helpers.gpt2_model(dropout=0.1)),
    replace(DICT, model=lambda: helpers.DictClassifier(dropout=0.3)),
    replace(TUPLE, model=lambda: helpers.TupleClassifier(dropout=0.3)),
)
