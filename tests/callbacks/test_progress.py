"""What is shown of a run, on a terminal and elsewhere?"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import etude
from etude.callbacks.progress import PrinterCallback, ProgressCallback, shows_bar
from tests import helpers

EVERY = {"eval_strategy": "steps", "eval_steps": 2, "logging_steps": 1, "max_steps": 4}


def train(folder: Path, **fields: Any) -> Any:
    args = helpers.training_arguments(etude, folder, **{**EVERY, **fields})
    data = helpers.feature_rows(16)
    trainer = etude.Trainer(helpers.DictClassifier(), args, train_dataset=data, eval_dataset=data)
    trainer.train()
    return trainer


def test_every_row_is_a_line_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = train(tmp_path, disable_tqdm=True)
    out, err = capsys.readouterr()
    rows = [line for line in err.splitlines() if line.startswith("step ")]
    assert len(rows) == len(trainer.state.log_history) == 7
    assert rows[0].startswith("step 1/4 (epoch 0.25)  loss ")
    assert "eval_loss" in rows[2]
    assert out == ""


def test_a_bar_runs_to_the_end_and_is_closed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = train(tmp_path, disable_tqdm=False)
    err = capsys.readouterr().err
    assert re.search(r"train: 100%.* 4/4 .*loss=", err)
    assert re.search(r"evaluate: +\d+%.*/2 ", err)
    bar = trainer.pop_callback(ProgressCallback)
    assert bar.training_bar is None
    assert bar.prediction_bar is None


def test_evaluations_are_written_above_the_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, disable_tqdm=False)
    err = capsys.readouterr().err
    assert len(re.findall(r"step [24]/4 \(epoch \d\.\d\d\)  eval_loss ", err)) == 2


def test_predicting_closes_its_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = helpers.training_arguments(etude, tmp_path, disable_tqdm=False)
    trainer = etude.Trainer(helpers.DictClassifier(), args)
    trainer.predict(helpers.feature_rows(20))
    assert re.search(r"evaluate: 100%.* 3/3 ", capsys.readouterr().err)
    assert trainer.pop_callback(ProgressCallback).prediction_bar is None


@pytest.mark.parametrize("callback", [ProgressCallback(), PrinterCallback()])
def test_other_processes_show_nothing(callback: Any, capsys: pytest.CaptureFixture[str]) -> None:
    args = helpers.training_arguments(etude, "x")
    state = etude.TrainerState(max_steps=2, is_world_process_zero=False, is_local_process_zero=False)
    control = etude.TrainerControl()
    for event in ("on_train_begin", "on_step_end", "on_prediction_step", "on_evaluate", "on_train_end"):
        getattr(callback, event)(args, state, control)
    callback.on_log(args, state, control, logs={"loss": 1.0})
    assert capsys.readouterr().err == ""


def test_logs_are_shown_and_left_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    logs = {"loss": 0.5, "total_flos": 3.0}
    state = etude.TrainerState(global_step=1, max_steps=2)
    PrinterCallback().on_log(None, state, etude.TrainerControl(), logs=logs)
    assert logs == {"loss": 0.5, "total_flos": 3.0}
    assert capsys.readouterr().err == "step 1/2  loss 0.5\n"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(("asked", "shown"), [(True, False), (False, True), (None, None)])
def test_a_bar_is_shown_as_asked_or_on_a_terminal(
    terminal: bool, asked: bool | None, shown: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert shows_bar(asked) is (terminal if shown is None else shown)
