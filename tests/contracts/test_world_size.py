"""A run whose processes are killed, started again on as many, on fewer and on more: is it the same run?"""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import helpers
from tests.contracts import world_size
from tests.contracts.world_size import BREAKS_AT, DATA, BrokenOffError, break_off, samples_of_updates
from tests.distributed.launch import run_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(600)]
Found = dict[str, Any]


def found_in(folder: Path, name: str, rank: int = 0) -> Found:
    """What a process has left."""
    found: Found = torch.load(folder / f"{name}-{rank}.pt", weights_only=False)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes that nobody kills."""
    folder = tmp_path_factory.mktemp("whole")
    run_ranks(world_size.run_whole, folder, world=2)
    return folder


@pytest.fixture(scope="module")
def broken(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of runs of two processes: one of them killed, both of them killed, streams broken off."""
    folder = tmp_path_factory.mktemp("broken")
    run_ranks(world_size.run_until_one_dies, folder / "map", world=2, dies=True)
    run_ranks(world_size.run_until_all_die, folder / "dropout", world=2, dies=True)
    for data in DATA:
        if data != "map":
            shutil.copytree(whole / f"{data}-broken", folder / data)
    for name in ("map", "dropout"):
        assert max(samples_of_updates(folder / name)) == BREAKS_AT
    return folder


def left_of(broken: Path, folder: Path, names: list[str]) -> Path:
    """A copy of those runs, whose ledgers are empty."""
    for name in names:
        shutil.copytree(broken / name, folder / name, ignore=shutil.ignore_patterns("ledger-*"))
    return folder


def assert_same_samples(folder: Path, whole: Path) -> None:
    """Each update of the run that went on has the samples of the run that was never killed."""
    again, expected = samples_of_updates(folder), samples_of_updates(whole)
    assert sorted(expected) == list(range(1, 11))
    assert min(again) <= BREAKS_AT  # it went on from an earlier checkpoint
    assert again == {step: expected[step] for step in range(min(again), 11)}


def test_the_ledger_is_that_of_the_data(whole: Path) -> None:
    """Every sample once in each pass, the last update being smaller."""
    for data in DATA:
        updates = samples_of_updates(whole / data)
        assert [len(updates[step]) for step in sorted(updates)] == [8, 8, 8, 8, 5] * 2
        assert sorted(chain.from_iterable(updates[step] for step in range(6, 11))) == list(range(37))


def test_two_processes_go_on_bit_by_bit(whole: Path, broken: Path, tmp_path: Path) -> None:
    """With dropout too; weights, every row of the log and the samples, on both."""
    names = [*DATA, "dropout"]
    run_ranks(world_size.go_on, left_of(broken, tmp_path, names), world=2)
    for name in names:
        for rank in range(2):
            again, expected = found_in(tmp_path, name, rank), found_in(whole, name, rank)
            helpers.assert_identical(again["weights"], expected["weights"])
            assert again["loss"] == expected["loss"]
            assert again["rows"] == expected["rows"]
        assert_same_samples(tmp_path / name, whole / name)


def assert_same_run(folder: Path, whole: Path, name: str) -> None:
    """The same samples in each update; losses and weights to rounding."""
    again, expected = found_in(folder, name), found_in(whole, name)
    assert_same_samples(folder / name, whole / name)
    assert helpers.relative_difference(again["weights"], expected["weights"]) <= 1e-5
    assert again["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    losses = [[row["loss"] for row in found["rows"] if "loss" in row] for found in (again, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_four_processes_go_on_with_the_same_batches(whole: Path, broken: Path, tmp_path: Path) -> None:
    run_ranks(world_size.go_on, left_of(broken, tmp_path, list(DATA)), world=4)
    for name in DATA:
        assert_same_run(tmp_path, whole, name)
        for rank in range(1, 4):
            helpers.assert_identical(
                found_in(tmp_path, name, rank)["weights"], found_in(tmp_path, name)["weights"]
            )


def test_one_process_goes_on_with_the_same_batches(
    whole: Path, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    left_of(broken, tmp_path, list(DATA))
    with pytest.raises(BrokenOffError):  # once more, with a checkpoint that the one process has written
        world_size.train(tmp_path / "map", at_break=break_off, breaks_at=9, resume=True)
    world_size.go_on(tmp_path)
    for name in DATA:
        assert_same_run(tmp_path, whole, name)


def test_three_processes_cannot_keep_the_global_batch(broken: Path, tmp_path: Path) -> None:
    """Which is said, with the ways out."""
    with pytest.raises(AssertionError, match=r"start as many processes as divide it \(1, 2, 4, 8\)"):
        run_ranks(world_size.go_on, left_of(broken, tmp_path, ["map"]), world=3)
