"""Does the local log hold every row once, and never lose an older log?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from etude import TrainerControl, TrainerState
from etude.trackers.jsonl import LogFileCallback


class Bench:
    """A log in a folder."""

    def __init__(self, folder: Path, **state: Any) -> None:
        self.folder = folder
        self.args = SimpleNamespace(output_dir=str(folder))
        self.state = TrainerState(**state)
        self.callback = LogFileCallback()

    def begin(self) -> Bench:
        self.callback.on_train_begin(self.args, self.state, TrainerControl())
        return self

    def log(self, **row: Any) -> None:
        self.state.log_history.append(row)
        self.callback.on_log(self.args, self.state, TrainerControl(), logs=row)

    def rows(self, name: str = "log.jsonl") -> list[Any]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


def test_each_row_is_there_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "new").begin()
    for step in (1, 2):
        bench.log(loss=1 / step, step=step)
        assert bench.rows() == bench.state.log_history


def test_a_fresh_run_keeps_the_log_of_the_one_before(tmp_path: Path) -> None:
    Bench(tmp_path).begin().log(loss=1.0, step=1)
    second = Bench(tmp_path).begin()
    second.log(loss=2.0, step=1)
    assert second.rows() == [{"loss": 2.0, "step": 1}]
    assert second.rows("log.previous.jsonl") == [{"loss": 1.0, "step": 1}]


def test_a_resumed_run_goes_on_behind_its_checkpoint(tmp_path: Path) -> None:
    first = Bench(tmp_path).begin()
    for step in (1, 2, 3):
        first.log(loss=float(step), step=step)
    resumed = Bench(
        tmp_path, global_step=2, log_history=[dict(row) for row in first.state.log_history[:2]]
    ).begin()
    assert resumed.rows() == first.state.log_history[:2]
    resumed.log(loss=3.5, step=3)
    assert [row["loss"] for row in resumed.rows()] == [1.0, 2.0, 3.5]
    assert not (tmp_path / "log.previous.jsonl").exists()


def test_a_run_resumed_elsewhere_has_all_rows(tmp_path: Path) -> None:
    rows = [{"loss": 1.0, "step": 1}]
    assert Bench(tmp_path / "other", global_step=1, log_history=rows).begin().rows() == rows


def test_evaluating_without_training_is_logged(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.log(eval_loss=1.0, step=0)
    assert bench.rows() == [{"eval_loss": 1.0, "step": 0}]


def test_what_json_cannot_hold_is_logged_as_text(tmp_path: Path) -> None:
    bench = Bench(tmp_path).begin()
    bench.log(device=torch.device("cpu"), step=1)
    assert bench.rows() == [{"device": "cpu", "step": 1}]


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "new", is_world_process_zero=False).begin()
    bench.log(loss=1.0, step=1)
    assert not (tmp_path / "new").exists()


def test_nothing_unfinished_is_left(tmp_path: Path) -> None:
    Bench(tmp_path).begin().log(loss=1.0, step=1)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_rows_that_a_full_disk_refuses_are_kept_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path).begin()
    write, room = os.write, [None, 0, 0, 7, 0, None]  # bytes that the disk takes

    def full(file: int, data: bytes) -> int:
        size = room.pop(0) if room else None
        if size == 0:
            raise OSError(28, "No space left on device")
        return write(file, data[:size])

    monkeypatch.setattr(os, "write", full)
    for step in range(5):
        bench.log(step=step)
    assert bench.rows() == [{"step": step} for step in range(5)]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
