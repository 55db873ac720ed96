"""What the contract suites run on several processes; the tests read what is left in the folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from tests import helpers
from tests.contracts.splitting import GLOBAL_BATCH, RANK_CUTS, SUBJECTS, take_steps

RAGGED_SUBJECTS = ("token-tagger", "gpt2", "regression", "mean-compute-loss", "counting-loss-func")
# A full global batch and a last one of five samples, which no cut of sixteen divides, or of one: a rank has none then.
RAGGED_SIZES = (GLOBAL_BATCH + 5, GLOBAL_BATCH + 1)
RankSteps = dict[str, Any]


def take_all_steps(folder: Path) -> None:
    """Gradients and logged losses of all subjects under all cuts over two ranks."""
    steps: dict[tuple[str, tuple[int, int], int], RankSteps] = {}
    for name, subject in SUBJECTS.items():
        sizes = (GLOBAL_BATCH, *RAGGED_SIZES) if name in RAGGED_SUBJECTS else (GLOBAL_BATCH,)
        for size in sizes:
            for cut in RANK_CUTS:
                taken = take_steps(subject, torch.float64, cut, folder / "run", subject.rows(size))
                steps[name, cut, size] = {"gradients": taken.gradients, "logged": taken.logged}
    torch.save(steps, folder / f"steps-{os.environ['RANK']}.pt")


EVALUATED = {
    "classifier": (helpers.DictClassifier, helpers.feature_rows, None),
    "regression": (helpers.Regressor, helpers.regression_rows, None),
    "token-tagger": (helpers.TokenTagger, helpers.tagged_rows, None),
    "gpt2": (helpers.gpt2_model, helpers.sequence_rows, helpers.pad_texts),
}


# (subject, number of samples, eval_accumulation_steps); batches have 8 samples
EVALUATIONS = [
    *[(name, size, None) for name in EVALUATED for size in (1, 7, 49, 64)],
    ("classifier", 49, 2),
    ("gpt2", 49, 2),
]


def error_metrics(prediction: Any) -> dict[str, float]:
    """Numbers that depend on every prediction, its label, and their order."""
    predictions, labels = prediction
    weights = torch.arange(1, len(predictions) + 1, dtype=torch.float64).numpy()
    flat = predictions.reshape(len(predictions), -1).astype("float64")
    return {
        "count": float(len(labels)),
        "ordered": float((flat.sum(axis=1) * weights).sum()),
        "labels": float((labels.reshape(len(labels), -1).sum(axis=1) * weights).sum()),
    }


def evaluate_sizes(folder: Path) -> dict[tuple[str, int, int | None], dict[str, Any]]:
    """Metrics and predictions of data sets of several sizes, as this rank reports them."""
    return {key: _evaluate(*key, folder / "run") for key in EVALUATIONS}


def _evaluate(name: str, size: int, accumulation: int | None, folder: Path) -> dict[str, Any]:
    model, make_rows, collator = EVALUATED[name]
    rows = make_rows(size)
    torch.manual_seed(5)
    with helpers.library("etude") as lib:
        trainer = lib.Trainer(
            model=model(),
            args=helpers.training_arguments(lib, folder, eval_accumulation_steps=accumulation),
            data_collator=collator,
            eval_dataset=rows,
            compute_metrics=error_metrics,
        )
        metrics = helpers.without_timing([trainer.evaluate()])[0]
        output = trainer.predict(rows)
    return {"metrics": metrics, "predictions": output.predictions, "label_ids": output.label_ids}


def save_evaluations(folder: Path) -> None:
    """Leave what every rank reports."""
    torch.save(evaluate_sizes(folder), folder / f"metrics-{os.environ['RANK']}.pt")
