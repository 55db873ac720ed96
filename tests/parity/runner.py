"""Run one case under a library and keep all that a user can see of it."""

from __future__ import annotations

import json
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
        made: builds further ones from the library and the model: callbacks, optimizers.
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
    made: Callable[[ModuleType, nn.Module], Mapping[str, Any]] = lambda lib, model: {}

    @property
    def relative(self) -> float:
        """How far numbers may be apart: by the precision that the case computes in."""
        return 1e-2 if self.arguments.get("bf16") or self.arguments.get("bf16_full_eval") else 1e-5

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
    folder: Path


def build_trainer(
    lib: ModuleType, case: Case, output_dir: Path, trainer_class: Any = None, **options: Any
) -> Any:
    """A ``Trainer`` of ``lib`` for ``case``."""
    torch.manual_seed(11)
    model = case.model()
    for name, value in case.told.items() if lib.__name__ == "transformers" else ():
        setattr(model, name, value)
    given = {
        "model": model,
        "args": helpers.training_arguments(lib, output_dir, **case.arguments),
        "data_collator": case.collator,
        "train_dataset": case.train_rows(),
        "eval_dataset": case.eval_rows(),
        "compute_metrics": case.compute_metrics,
    }
    return (trainer_class or lib.Trainer)(
        **{**given, **case.trainer_options, **case.made(lib, model), **options}
    )


def run(name: str, case: Case, output_dir: Path, resume: str | None = None, **options: Any) -> Outcome:
    """Train ``case`` under the library ``name``."""
    with helpers.library(name) as lib:
        trainer = build_trainer(lib, case, output_dir / name, **options)
        output = trainer.train(resume_from_checkpoint=resume)
    weights = helpers.weights_of(trainer.model)
    return Outcome(trainer, output, list(trainer.state.log_history), weights, output_dir / name)


def run_both(case: Case, output_dir: Path) -> tuple[Outcome, Outcome]:
    """Train ``case`` under the reference and under étude."""
    theirs, ours = (run(name, case, output_dir) for name in LIBRARIES)
    return theirs, ours


def without_measurements(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Log rows without what depends on the clock or on the memory of the machine."""
    return [
        {key: value for key, value in row.items() if "_mem_" not in key}
        for row in helpers.without_timing(rows)
    ]


def assert_same_rows(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], relative: float = 1e-5
) -> None:
    """Log rows have the same keys in all rows, and the same numbers where the clock plays no part."""
    assert [sorted(row) for row in ours] == [sorted(row) for row in theirs]
    our_rows, their_rows = without_measurements(ours), without_measurements(theirs)
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


def states_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The trainer state of every checkpoint in ``folder``."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in folder.glob("checkpoint-*/trainer_state.json")
    }


def assert_same_state(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], relative: float = 1e-5, log: bool = True
) -> None:
    """Two trainer states have the same fields and values; of the best checkpoint, the name of its folder."""
    ours, theirs = dict(ours), dict(theirs)
    assert ours.keys() == theirs.keys()
    rows = ours.pop("log_history"), theirs.pop("log_history")
    if log:
        assert_same_rows(*rows, relative=relative)
    for state in (ours, theirs):
        state["best_model_checkpoint"] = (
            state["best_model_checkpoint"] and Path(state["best_model_checkpoint"]).name
        )
    differing = {
        key: (ours[key], theirs[key])
        for key in theirs
        if ours[key]
        != (pytest.approx(theirs[key], rel=relative) if isinstance(theirs[key], float) else theirs[key])
    }
    assert not differing


def assert_same_outcome(ours: Outcome, theirs: Outcome, relative: float = 1e-5, log: bool = True) -> None:
    """Everything that can be seen of two trainings is the same.

    Args:
        log: compare log rows and the training loss too; not those of resumed runs, where they differ on purpose.
    """
    if log:
        assert_same_rows(ours.log_history, theirs.log_history, relative)
        assert ours.output.training_loss == pytest.approx(theirs.output.training_loss, rel=relative)
    assert_same_weights(determined(ours.weights), determined(theirs.weights), relative)
    assert ours.output.global_step == theirs.output.global_step
    # The reference's PrinterCallback takes the operations out of the row that is returned afterwards.
    metrics = [sorted({*outcome.output.metrics} - {"total_flos"}) for outcome in (ours, theirs)]
    assert metrics[0] == metrics[1]
    assert_same_state(*(public_state(outcome) for outcome in (ours, theirs)), relative, log)
    mine, reference = (states_of(outcome.folder) for outcome in (ours, theirs))
    assert sorted(mine) == sorted(reference)
    for name in reference:
        assert_same_state(mine[name], reference[name], relative, log)


def determined(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights without the biases of attention keys.

    Such a bias adds the same to all scores of a query, which softmax does not see. Its gradient is zero but for
    rounding, and adaptive optimizers make full steps of that.
    """
    return {name: value for name, value in weights.items() if not name.endswith(("key.bias", "k_proj.bias"))}


def public_state(outcome: Outcome) -> dict[str, Any]:
    """The trainer's state at the end; what callbacks export is only brought up to date for a checkpoint."""
    fields = vars(outcome.trainer.state)
    return {name: fields[name] for name in fields if name != "stateful_callbacks"}


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
