"""Checkpoints as transformers 4 wrote them, and those without an optimizer: does a run go on from them as it should?"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from etude.checkpoint.tensors import load_tensors
from etude.errors import CheckpointError
from tests import helpers
from tests.contracts.resuming import BASE, Result, Scenario, finish

SCENARIO: Scenario = replace(BASE, rows=lambda: helpers.feature_rows(24)).having(
    num_train_epochs=2, save_steps=2, eval_strategy="no"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The uninterrupted run, and its checkpoint in the middle of the second epoch."""
    folder = tmp_path_factory.mktemp("whole")
    return finish(SCENARIO, folder), folder / "checkpoint-4"


class Arguments:
    """What version 4 pickled: an object that only running code brings back."""

    def __reduce__(self) -> Any:
        return os.abort, ()


def as_version_4(checkpoint: Path, folder: Path) -> Path:
    """The same checkpoint in the layout of transformers 4 with `save_safetensors=False`."""
    shutil.copytree(checkpoint, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    torch.save(Arguments(), folder / "training_args.bin")
    state = json.loads((folder / "trainer_state.json").read_text())
    for name in ("best_global_step", "stateful_callbacks"):  # came with later releases of version 4
        state.pop(name)
    (folder / "trainer_state.json").write_text(json.dumps(state))
    saved = load_tensors(folder / "rng_state.pth")
    torch.save({key: saved[key] for key in ("python", "numpy", "cpu")}, folder / "rng_state.pth")
    for name in ("model.safetensors", "manifest.json", "etude_state.json", "training_args.json"):
        (folder / name).unlink()
    return folder


def test_a_run_of_version_4_goes_on(whole: tuple[Result, Path], tmp_path: Path) -> None:
    """With plain torch files for weights, dropout in the model, and arguments that nobody reads."""
    as_version_4(whole[1], tmp_path / "checkpoint-4")
    found = finish(SCENARIO, tmp_path, resume=True)
    helpers.assert_identical(found.weights, whole[0].weights)
    assert found.rows[:-1] == whole[0].rows[:-1]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
def test_a_file_that_was_cut_off_is_found_without_a_manifest(
    name: str, whole: tuple[Result, Path], tmp_path: Path
) -> None:
    """By how the files of PyTorch are built."""
    path = as_version_4(whole[1], tmp_path / "checkpoint-4") / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"checkpoint-4 is broken: {name}"):
        finish(SCENARIO, tmp_path, resume=str(tmp_path / "checkpoint-4"))


def test_a_checkpoint_of_the_model_alone_goes_on_only_where_that_is_said(tmp_path: Path) -> None:
    """With a new optimizer, and the schedule at its step."""
    whole = finish(SCENARIO.having(save_only_model=True), tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-6")
    with pytest.raises(CheckpointError, match="has no optimizer.pt.*resume_with_fresh_optimizer=True"):
        finish(SCENARIO, tmp_path, resume=True)
    fresh = finish(SCENARIO.having(resume_with_fresh_optimizer=True), tmp_path, resume=True)
    assert [row["step"] for row in fresh.rows] == [row["step"] for row in whole.rows]
    rates = [[row["learning_rate"] for row in run.rows if "loss" in row] for run in (fresh, whole)]
    assert rates[0] == rates[1]
    assert fresh.rows[2]["loss"] != whole.rows[2]["loss"]


def test_a_new_optimizer_where_the_checkpoint_has_one(whole: tuple[Result, Path], tmp_path: Path) -> None:
    """It is new all the same, and may be another one."""
    shutil.copytree(whole[1], tmp_path / "checkpoint-4")
    other = SCENARIO.having(resume_with_fresh_optimizer=True, optim="sgd", learning_rate=0.5)
    found = finish(other, tmp_path, resume=True)
    assert found.rows[-2]["learning_rate"] == pytest.approx(whole[0].rows[-2]["learning_rate"] * 50)
    assert found.output.global_step == 6
