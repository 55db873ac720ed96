"""Do losses, norms, learning rates, metrics and final weights equal those of the reference?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import helpers
from tests.parity.runner import (
    DICT,
    FAMILIES,
    LIBRARIES,
    WITH_DROPOUT,
    Case,
    assert_same_rows,
    assert_same_weights,
    build_trainer,
    run,
    run_both,
)

ACCUMULATION = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "logging_steps": 2}
VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    # 12 micro-batches an epoch in windows of 5: the last window of each epoch is short.
    "short-window": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 5},
    "clipped": {**ACCUMULATION, "max_grad_norm": 0.05},
    "unclipped": {"max_grad_norm": 0.0},
    "warmup-steps": {"warmup_steps": 3, "lr_scheduler_type": "cosine"},
    "warmup-ratio": {"warmup_steps": 0.3},
    "weight-decay": {**ACCUMULATION, "weight_decay": 0.3, "learning_rate": 0.05},
    "eval-steps": {**ACCUMULATION, "eval_strategy": "steps", "eval_steps": 3},
    "eval-epoch": {"eval_strategy": "epoch", "logging_strategy": "epoch"},
    "sgd": {"optim": "sgd", "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2, "max_steps": 8},
}
DROPOUT_VARIANTS: dict[str, dict[str, object]] = {
    "dropout": {},
    "dropout-accumulation": {**ACCUMULATION, "num_train_epochs": 3},
}
# Every pair is checked; the fast suite takes, for each family, those that only this family can break.
FAST = {
    "bert": {"clipped", "eval-epoch", "dropout-accumulation"},
    "gpt2": {"short-window", "eval-steps", "warmup-ratio", "dropout"},
    "dict": {*VARIANTS, *DROPOUT_VARIANTS},
    "tuple": {"weight-decay", "eval-steps"},
}


def _cases(families: Sequence[Case], variants: Mapping[str, Mapping[str, object]]) -> list[Any]:
    return [
        pytest.param(
            family.having(name, **fields),
            id=f"{family}-{name}",
            marks=() if name in FAST[family.name] else pytest.mark.slow,
        )
        for family in families
        for name, fields in variants.items()
    ]


@pytest.mark.parametrize("case", [*_cases(FAMILIES, VARIANTS), *_cases(WITH_DROPOUT, DROPOUT_VARIANTS)])
def test_training_equals_the_reference(case: Case, tmp_path: Path) -> None:
    """Every logged number and every weight agrees to 1e-5."""
    theirs, ours = run_both(case, tmp_path)
    assert_same_rows(ours.log_history, theirs.log_history)
    assert_same_weights(ours.weights, theirs.weights)
    assert ours.output.global_step == theirs.output.global_step
    assert ours.output.training_loss == pytest.approx(theirs.output.training_loss, rel=1e-5)


@pytest.mark.parametrize(
    "case", [family.having("bf16", bf16=True, **ACCUMULATION) for family in FAMILIES], ids=str
)
def test_bf16_training_equals_the_reference(case: Case, tmp_path: Path) -> None:
    """Under bf16 autocast numbers agree to the precision of that format."""
    theirs, ours = run_both(case.having(eval_strategy="epoch"), tmp_path)
    assert_same_rows(ours.log_history, theirs.log_history, relative=1e-2)
    assert_same_weights(ours.weights, theirs.weights, relative=1e-2)


class BatchRecorder:
    """A collator that keeps the first feature of every sample, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.batches.append([float(row["features"][0]) for row in rows])
        return {key: torch.stack([torch.as_tensor(row[key]) for row in rows]) for key in rows[0]}


@pytest.mark.parametrize("data_seed", [None, 1234])
def test_order_of_samples_equals_the_reference(data_seed: int | None, tmp_path: Path) -> None:
    """Each batch of each epoch holds the same samples in the same order."""
    recorders = {name: BatchRecorder() for name in LIBRARIES}
    for name, recorder in recorders.items():
        rows = helpers.feature_rows(21)
        run(
            name,
            Case("order", DICT.model, lambda r=rows: r, DICT.eval_rows, {"data_seed": data_seed}, recorder),
            tmp_path,
        )
    assert recorders["etude"].batches == recorders["transformers"].batches


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_evaluation_without_training_equals_the_reference(family: Case, tmp_path: Path) -> None:
    """``evaluate()`` of an untrained trainer returns and logs the same numbers."""
    rows = {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = build_trainer(lib, family, tmp_path / name)
            returned = {**trainer.evaluate(), "step": 0}
            rows[name] = helpers.without_timing([returned, *trainer.state.log_history])
    assert_same_rows(rows["etude"], rows["transformers"])
