"""Are predictions, labels and metrics of ``predict()`` those of the reference?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from tests import helpers
from tests.parity.runner import BERT, DICT, FAMILIES, GPT2, LIBRARIES, Case, build_trainer


class TwoScores(nn.Module):
    """Two outputs of different shape, a nested one, and two label tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(helpers.NUM_FEATURES, 4)

    def forward(self, features: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> dict[str, Any]:
        """Scores, a nested pair of them and a loss over both targets."""
        scores = self.layer(features)
        loss = (scores[:, 0] - first).pow(2).mean() + (scores[:, 1] - second).pow(2).mean()
        return {"loss": loss, "scores": scores, "pair": (scores[:, :2], scores[:, 2])}


class FeatureStream(IterableDataset):
    """Nineteen rows without a length."""

    def __iter__(self) -> Any:
        yield from helpers.feature_rows(19, seed=5).rows


def two_label_rows(count: int) -> helpers.Rows:
    """Rows with two float targets."""
    rows = helpers.feature_rows(count).rows
    return helpers.Rows(
        [{"features": row["features"], "first": float(i), "second": -float(i)} for i, row in enumerate(rows)]
    )


def without_labels(count: int) -> helpers.Rows:
    """Rows without a label."""
    return helpers.Rows([{"features": row["features"]} for row in helpers.feature_rows(count).rows])


def keep_arg_max(logits: Any, labels: Any) -> Any:
    """Reduce scores to classes before they are gathered."""
    return (logits[0] if isinstance(logits, tuple) else logits).argmax(-1)


def same_classes(prediction: Any) -> dict[str, float]:
    """Accuracy of classes that were reduced before; returned as a NumPy scalar, as users do."""
    return {"accuracy": np.mean(prediction.predictions == prediction.label_ids)}


def extra_metrics(prediction: Any) -> dict[str, Any]:
    """Metrics of what ``include_for_metrics`` hands over."""
    return {
        "input_rows": len(prediction.inputs),
        "input_sum": int(np.sum(prediction.inputs)),
        "loss_sum": float(np.sum(prediction.losses)),
        "losses": len(prediction.losses),
    }


CASES: dict[str, Case] = {
    **{family.name: family for family in FAMILIES},
    "untrained-pair": Case(
        "pair",
        TwoScores,
        lambda: two_label_rows(8),
        lambda: two_label_rows(19),
        {"label_names": ["first", "second"]},
        compute_metrics=None,
    ),
    "no-labels": replace(DICT, eval_rows=lambda: without_labels(19), compute_metrics=None),
    "stream": replace(DICT, eval_rows=FeatureStream),
    "loss-only": DICT.having(prediction_loss_only=True),
    "accumulated": GPT2.having(eval_accumulation_steps=2),
    "no-concat": replace(GPT2, compute_metrics=None).having(eval_do_concat_batches=False),
    "bf16": BERT.having(bf16=True),
    "classes": replace(
        BERT, compute_metrics=same_classes, trainer_options={"preprocess_logits_for_metrics": keep_arg_max}
    ),
    "inputs-and-losses": replace(BERT, compute_metrics=extra_metrics).having(
        include_for_metrics=["inputs", "loss"]
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_predictions_equal_the_reference(case: Case, tmp_path: Path) -> None:
    """Arrays, labels, metrics and their keys are the same."""
    outputs = {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = build_trainer(lib, case, tmp_path / name)
            outputs[name] = trainer.predict(case.eval_rows(), metric_key_prefix="held_out")
    ours, theirs = outputs["etude"], outputs["transformers"]
    helpers.assert_same_arrays(ours.predictions, theirs.predictions)
    helpers.assert_same_arrays(ours.label_ids, theirs.label_ids)
    our_metrics, their_metrics = helpers.without_timing([ours.metrics, theirs.metrics])
    assert our_metrics == pytest.approx(their_metrics, rel=1e-6)
    assert {key: type(our_metrics[key]) for key in their_metrics} == {
        key: type(v) for key, v in their_metrics.items()
    }
    assert ours._fields == theirs._fields


def test_metric_keys_equal_the_reference(tmp_path: Path) -> None:
    """Evaluation and prediction report the same keys before a training and after it, those about speed too.

    All but one: before a training the reference adds how long its own wrapping of the model took.
    """
    keys = {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            fresh = build_trainer(lib, DICT, tmp_path / name)
            trained = build_trainer(lib, DICT, tmp_path / name)
            trained.train()
            keys[name] = [
                (sorted(trainer.evaluate()), sorted(trainer.predict(DICT.eval_rows()).metrics))
                for trainer in (trained, fresh)
            ]
    before = [[key for key in found if "preparation_time" in key] for found in keys["transformers"].pop()]
    assert before == [["eval_model_preparation_time"], ["test_model_preparation_time"]]
    fresh_keys = keys["etude"].pop()
    assert keys["etude"] == keys["transformers"]
    assert fresh_keys == keys["etude"][0]
