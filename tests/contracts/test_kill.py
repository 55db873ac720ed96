"""A save that fails in any of its parts: is there ever half a checkpoint, or another result?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from etude.errors import CheckpointError
from tests import helpers
from tests.contracts.resuming import BASE, assert_same_run, build, finish, visible_checkpoints


class FullDiskError(OSError):
    """What the broken disk raises."""


def fail_on_call(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let call ``number`` of ``torch.save`` write a few bytes and fail."""
    original, calls = torch.save, [0]

    def failing(value: Any, target: Any, *args: Any, **kwargs: Any) -> None:
        calls[0] += 1
        if calls[0] == number:
            if isinstance(target, (str, os.PathLike)):
                Path(target).write_bytes(b"half a file")
            raise FullDiskError("no space left on device")
        original(value, target, *args, **kwargs)

    monkeypatch.setattr(torch, "save", failing)


@pytest.mark.parametrize("number", range(5, 9))
def test_failing_writer_leaves_the_checkpoint_before(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is shown, the checkpoint in work is not, and the run resumes from the one before."""
    whole = finish(BASE, tmp_path / "whole")
    with monkeypatch.context() as patch, helpers.library("etude") as lib:
        fail_on_call(patch, number)
        trainer = build(BASE, tmp_path / "broken", lib)
        with pytest.raises((OSError, RuntimeError, ValueError)):
            trainer.train()
    assert visible_checkpoints(tmp_path / "broken") == ["checkpoint-3"]
    assert_same_run(finish(BASE, tmp_path / "broken", resume=True), whole)


def make_failing(lib: ModuleType, when: str) -> type:
    """A trainer whose second checkpoint fails before or after its weights are written."""

    class Failing(lib.Trainer):  # type: ignore[name-defined, misc]
        saves = 0

        def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
            self.saves += 1
            if self.saves == 2 and when == "before":
                raise FullDiskError("before the weights")
            super()._save(output_dir, state_dict)
            if self.saves == 2:
                raise FullDiskError("after the weights")

    return Failing


@pytest.mark.parametrize("when", ["before", "after"])
def test_failing_save_hook_leaves_the_checkpoint_before(when: str, tmp_path: Path) -> None:
    """A user's ``_save`` that fails in the middle."""
    whole = finish(BASE, tmp_path / "whole")
    with helpers.library("etude") as lib:
        trainer = build(BASE, tmp_path / "broken", lib, trainer_class=make_failing(lib, when))
        with pytest.raises(CheckpointError, match="the weights. Earlier checkpoints are whole"):
            trainer.train()
    assert visible_checkpoints(tmp_path / "broken") == ["checkpoint-3"]
    assert_same_run(finish(BASE, tmp_path / "broken", resume=True), whole)


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path: Path) -> None:
    """A staging folder is no checkpoint, and the next save clears it away."""
    scenario = replace(BASE, arguments={**BASE.arguments, "num_train_epochs": 1})
    whole = finish(scenario, tmp_path / "whole")
    (tmp_path / "other" / ".staging-checkpoint-9").mkdir(parents=True)
    (tmp_path / "other" / ".staging-checkpoint-9" / "model.safetensors").write_bytes(b"half")
    assert_same_run(finish(scenario, tmp_path / "other"), whole)
    assert not list((tmp_path / "other").glob(".staging*"))
