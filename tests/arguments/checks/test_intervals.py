"""Do checkpoints fall on evaluations where the best model is wanted, and is a change said?"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

import etude
from etude import TrainingArguments
from tests import helpers

STEPS = {"eval_strategy": "steps", "save_strategy": "steps"}

# what is given, and what saving becomes
MOVED: list[tuple[dict[str, Any], str, float]] = [
    ({"eval_strategy": "epoch"}, "epoch", 500),
    ({"eval_strategy": "epoch", "save_strategy": "no"}, "epoch", 500),
    ({"eval_strategy": "steps", "eval_steps": 20, "save_strategy": "epoch"}, "steps", 20),
    ({**STEPS, "eval_steps": 3, "save_steps": 10}, "steps", 9),
    ({**STEPS, "eval_steps": 50, "save_steps": 30}, "steps", 50),
    ({**STEPS, "eval_steps": 50, "save_steps": 0}, "steps", 50),
    ({**STEPS, "eval_steps": 0.1, "save_steps": 100}, "steps", 0.1),
    ({**STEPS, "eval_steps": 0.2, "save_steps": 0.3}, "steps", 0.2),
]
LEFT: list[dict[str, Any]] = [
    {**STEPS, "eval_steps": 5, "save_steps": 10},
    {**STEPS, "eval_steps": 10, "save_steps": 5},
    {**STEPS, "eval_steps": 0.1, "save_steps": 0.3},
    {"eval_strategy": "epoch", "save_strategy": "best"},
]


@pytest.mark.parametrize(("given", "strategy", "steps"), MOVED, ids=str)
def test_saving_follows_evaluation_and_says_so_once(
    given: dict[str, Any], strategy: str, steps: float, caplog: pytest.LogCaptureFixture
) -> None:
    args = TrainingArguments("x", load_best_model_at_end=True, **given)
    assert (args.save_strategy, args.save_steps) == (strategy, steps)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"save_strategy='{strategy}'" in caplog.text
    caplog.clear()
    assert dataclasses.replace(args) == args
    assert not caplog.records


@pytest.mark.parametrize("given", LEFT, ids=str)
def test_what_fits_is_left_alone(given: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    args = TrainingArguments("x", load_best_model_at_end=True, **given)
    assert {name: getattr(args, name) for name in given} == given
    assert not caplog.records


def test_only_the_main_process_says_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    args = TrainingArguments("x", load_best_model_at_end=True, eval_strategy="epoch")
    assert args.save_strategy == "epoch"
    assert not caplog.records


@pytest.mark.parametrize("save_steps", [1, 3, 0.4])
@pytest.mark.parametrize("eval_steps", [2, 0.15])
def test_the_best_evaluation_always_has_a_checkpoint(
    save_steps: float, eval_steps: float, tmp_path: Path
) -> None:
    """Also where shares of the run round to steps that are no multiples of each other."""
    args = helpers.training_arguments(
        etude, tmp_path, **STEPS, eval_steps=eval_steps, save_steps=save_steps, max_steps=17,
        load_best_model_at_end=True, metric_for_best_model="score", greater_is_better=True,
    )  # fmt: skip
    trainer = etude.Trainer(
        helpers.DictClassifier(), args, train_dataset=helpers.feature_rows(16),
        eval_dataset=helpers.feature_rows(4), compute_metrics=lambda _: {"score": trainer.state.global_step},
    )  # fmt: skip
    trainer.train()
    saved = {int(path.name.partition("-")[2]) for path in tmp_path.glob("checkpoint-*")}
    evaluated = {row["step"] for row in trainer.state.log_history if "eval_score" in row}
    assert saved <= evaluated | {17} or evaluated <= saved
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-17")
