"""Is the time that a training waits for data measured, told once, and shortened?"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import etude
from etude.data import waiting
from etude.data.waiting import STRETCH, DataWait, advice, num_loading_processes
from etude.errors import ConfigurationError
from tests import helpers
from tests.properties import quick


class Clock:
    """Stands still unless it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def passed(wait: DataWait, clock: Clock, updates: int, waited: float, worked: float) -> list[float]:
    """What was told in so many updates."""
    told = []
    for _ in range(updates):
        wait.begin()
        clock.now += waited
        share = wait.end()
        clock.now += worked
        told += [] if share is None else [share]
    return told


@quick
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.001, 5)), min_size=1, max_size=20))
def test_the_share_is_that_of_all_time(times: list[tuple[float, float]]) -> None:
    clock = Clock()
    wait = DataWait(clock)
    for waited, worked in times:
        passed(wait, clock, 1, waited, worked)
    total = sum(waited for waited, _ in times)
    everything = total + sum(worked for _, worked in times[:-1])  # the last work is not over
    assert wait.share == pytest.approx(total / everything if everything else 0.0)


def test_much_waiting_is_told_once() -> None:
    clock = Clock()
    wait = DataWait(clock)
    assert passed(wait, clock, STRETCH, 0.1, 0.3) == []
    assert passed(wait, clock, 10 * STRETCH, 0.1, 0.3) == [pytest.approx(0.25, rel=1e-3)]


@pytest.mark.parametrize(("waited", "worked"), [(0.1, 1.0), (0.005, 0.0)])
def test_little_waiting_is_not_told(waited: float, worked: float) -> None:
    clock = Clock()
    assert passed(DataWait(clock), clock, 5 * STRETCH, waited, worked) == []


def test_the_start_is_not_held_against_the_data() -> None:
    clock = Clock()
    wait = DataWait(clock)
    passed(wait, clock, 1, 1000.0, 0.1)
    assert passed(wait, clock, 2 * STRETCH, 0.001, 0.1) == []
    assert wait.share > 0.9


def test_the_advice_depends_on_what_is_done_already() -> None:
    assert "25% of" in advice(0.25, 0)
    assert 'dataloader_num_workers="auto"' in advice(0.25, 0)
    assert "3 processes load it" in advice(0.25, 3)


@pytest.mark.parametrize(
    ("cores", "processes", "chosen"), [(1, 1, 1), (2, 1, 1), (8, 1, 7), (8, 2, 3), (64, 4, 8), (4, 8, 1)]
)
def test_the_number_of_processes_goes_by_cores(
    cores: int, processes: int, chosen: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waiting._automatic.cache_clear()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    with caplog.at_level(logging.WARNING, "etude"):
        assert [num_loading_processes("auto", 99) for _ in range(3)] == [chosen] * 3
    waiting._automatic.cache_clear()
    assert len(caplog.records) == 1
    assert f"{chosen} for each training process" in caplog.text
    assert num_loading_processes(5, processes) == 5


class Slow(torch.utils.data.Dataset):
    """Each sample takes its time."""

    def __init__(self) -> None:
        self.rows = helpers.feature_rows(8)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.001)
        return self.rows[index]


def slow_trainer(folder: Path, **options: Any) -> Any:
    arguments = helpers.training_arguments(etude, folder, per_device_train_batch_size=1, **options)
    return etude.Trainer(helpers.DictClassifier(), arguments, train_dataset=Slow())


def test_a_training_says_that_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "STRETCH", 4)
    monkeypatch.setattr(waiting, "WORTH_TELLING", 0.0)
    monkeypatch.setattr(waiting, "TOO_MUCH", 0.0)
    trainer = slow_trainer(tmp_path, num_train_epochs=3)
    with caplog.at_level(logging.WARNING, "etude"):
        trainer.train()
    assert caplog.text.count("waiting for data") == 1
    assert 0 < trainer._etude.run.waiting.share < 1
    assert not any("wait" in name for row in trainer.state.log_history for name in row)


def test_auto_is_an_argument(tmp_path: Path) -> None:
    trainer = slow_trainer(tmp_path, dataloader_num_workers="auto", dataloader_prefetch_factor=3)
    assert trainer.get_train_dataloader().num_workers == num_loading_processes("auto", 1) > 0
    (parsed,) = etude.HfArgumentParser(etude.TrainingArguments).parse_args_into_dataclasses(
        ["--dataloader_num_workers", "auto"]
    )
    assert parsed.dataloader_num_workers == "auto"
    with pytest.raises(ConfigurationError, match='`dataloader_num_workers` must be .*"auto".*two'):
        slow_trainer(tmp_path, dataloader_num_workers="two")
