"""Memory figures: the reference's keys in the reference's places, and numbers that say what happened."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import etude
from etude.memory.tracker import HostMemory, TrainerMemoryTracker, resident_memory
from tests import helpers
from tests.parity.runner import DICT, LIBRARIES, build_trainer

SIZE = 64 << 20
CPU = torch.device("cpu")


def until(done: Callable[[], bool]) -> None:
    """Waits for another thread; a test that waits for ever is stopped by its time limit."""
    while not done():
        time.sleep(0.005)


def allocated() -> torch.Tensor:
    """Memory that is in use: pages count once they are written to."""
    return torch.ones(SIZE, dtype=torch.uint8)


def places(library: str, folder: Path, **arguments: Any) -> list[list[str]]:
    """The memory keys of what each stage returns, and of each row of the log."""
    case = DICT.having(max_steps=2, eval_strategy="steps", eval_steps=1, **arguments)
    with helpers.library(library) as lib:
        trainer = build_trainer(lib, case, folder / library)
        results = [trainer.train().metrics, trainer.evaluate(), trainer.predict(case.eval_rows()).metrics]
    return [sorted(key for key in row if "_mem_" in key) for row in [*results, *trainer.state.log_history]]


def test_the_keys_stand_where_the_reference_has_them(tmp_path: Path) -> None:
    theirs, ours = (places(name, tmp_path, skip_memory_metrics=False) for name in LIBRARIES)
    assert ours == theirs
    assert [len(keys) for keys in ours[:3]] == [5, 2, 2]
    assert any(ours[3:])


def test_there_are_none_by_default_and_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    assert not any(places("etude", tmp_path))
    assert threading.active_count() == before


def test_what_stays_is_allocated_and_what_goes_is_peak() -> None:
    tracker, metrics = TrainerMemoryTracker(device=CPU), {}
    with tracker.measured("train"):
        kept = allocated()
        passing = allocated()
        now = resident_memory()()
        until(lambda: tracker._meters["cpu"]._peak >= now - (1 << 20))
        del passing
    tracker.stop_and_update_metrics(metrics, "train")
    assert metrics["train_mem_cpu_alloc_delta"] > 0.8 * SIZE
    assert metrics["train_mem_cpu_peaked_delta"] > 0.8 * SIZE
    assert kept.numel() == SIZE


def test_a_stage_inside_another_belongs_to_it() -> None:
    tracker, inner, outer = TrainerMemoryTracker(device=CPU), {}, {}
    tracker.start("train")
    with tracker.measured("eval"):
        pass
    tracker.stop_and_update_metrics(inner, "eval")
    tracker.stop_and_update_metrics(outer, "train")
    assert inner == {}
    assert set(outer) == {"train_mem_cpu_alloc_delta", "train_mem_cpu_peaked_delta"}


def test_an_error_ends_the_stage(tmp_path: Path) -> None:
    trainer = build_trainer(etude, DICT.having(skip_memory_metrics=False), tmp_path)
    trainer.train_dataset, rows = None, trainer.train_dataset
    with pytest.raises(ValueError, match="train_dataset"):
        trainer.train()
    trainer.train_dataset = rows
    assert "eval_mem_cpu_alloc_delta" in trainer.evaluate()
    assert "train_mem_cpu_alloc_delta" in trainer.train().metrics


def test_a_construction_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    args = helpers.training_arguments(etude, tmp_path, skip_memory_metrics=False)
    with pytest.raises(RuntimeError, match="model_init"):
        etude.Trainer(args=args)
    gc.collect()
    until(lambda: threading.active_count() == before)


def test_resident_memory_is_that_of_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    from etude.memory import tracker

    here = tracker.resident_memory()()
    monkeypatch.setattr(tracker, "_STATM", Path("/nowhere"))
    assert tracker.resident_memory()() == pytest.approx(here, rel=0.1)


def test_an_accelerator_is_asked_for_its_own_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = {"memory_allocated": iter([100, 130]), "max_memory_allocated": iter([190])}
    for name in ("empty_cache", "reset_peak_memory_stats", *answers):
        numbers = answers.get(name)
        monkeypatch.setattr(
            torch.accelerator, name, lambda *_, n=name, it=numbers: (asked.append(n), it and next(it))[1]
        )
    tracker, metrics = TrainerMemoryTracker(device=torch.device("cuda", 0)), {}
    tracker.start("init")
    tracker.stop_and_update_metrics(metrics, "init")
    assert asked.index("reset_peak_memory_stats") < asked.index("memory_allocated")
    assert {key: value for key, value in metrics.items() if "gpu" in key} == {
        "init_mem_gpu_alloc_delta": 30,
        "init_mem_gpu_peaked_delta": 60,
        "before_init_mem_gpu": 100,
    }


def test_the_thread_of_a_forgotten_meter_ends() -> None:
    before = threading.active_count()
    meter = HostMemory()
    meter.begin()
    assert threading.active_count() == before + 1
    del meter
    until(lambda: threading.active_count() == before)
