"""Which checkpoint is meant by a path, True and "auto", and is a broken one ever taken?"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from etude import TrainerState
from etude.checkpoint.manifest import Manifest, describe_all
from etude.checkpoint.resolve import Resolver
from etude.core.world import World
from etude.errors import CheckpointError
from etude.strategies.base import Strategy

STRATEGY = Strategy(World(), torch.device("cpu"))


def resolve(wanted: Any, folder: Path) -> str | None:
    return Resolver(STRATEGY, looks=True).resolve(wanted, str(folder))


def checkpoint(folder: Path, step: int, manifest: bool = True) -> str:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    TrainerState(global_step=step).save_to_json(str(path / "trainer_state.json"))
    save_file({"weight": torch.full((3,), float(step))}, path / "model.safetensors")
    if manifest:
        Manifest(step, 1, describe_all(path), {}).save(path)
    return str(path)


def damage(folder: str, name: str = "model.safetensors") -> None:
    path = Path(folder) / name
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("nothing", [None, False])
def test_nothing_means_a_fresh_start(nothing: Any, tmp_path: Path) -> None:
    checkpoint(tmp_path, 1)
    assert resolve(nothing, tmp_path) is None


@pytest.mark.parametrize("wanted", [True, "auto"])
@pytest.mark.parametrize("manifest", [True, False])
def test_the_newest_is_the_one_of_the_highest_step(wanted: Any, manifest: bool, tmp_path: Path) -> None:
    checkpoint(tmp_path, 9, manifest)
    newest = checkpoint(tmp_path, 10, manifest)
    assert resolve(wanted, tmp_path) == newest


@pytest.mark.parametrize("wanted", [True, "auto"])
@pytest.mark.parametrize("manifest", [True, False])
def test_a_broken_one_is_passed_over_and_said(
    wanted: Any, manifest: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = checkpoint(tmp_path, 8, manifest)
    damage(checkpoint(tmp_path, 9, manifest), "trainer_state.json")
    damage(checkpoint(tmp_path, 10, manifest))
    Path(checkpoint(tmp_path, 7, manifest), "model.safetensors").unlink()  # older: nobody looks at it
    assert resolve(wanted, tmp_path) == good
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    for record, name, file in zip(
        caplog.records,
        ("checkpoint-10", "checkpoint-9"),
        ("model.safetensors", "trainer_state.json"),
        strict=True,
    ):
        assert f"{tmp_path / name} is broken: {file}" in record.getMessage()
        assert "\n" not in record.getMessage()


@pytest.mark.parametrize("wanted", [True, "auto"])
def test_where_all_are_broken_nothing_begins_anew(wanted: Any, tmp_path: Path) -> None:
    damage(checkpoint(tmp_path, 9))
    damage(checkpoint(tmp_path, 10))
    with pytest.raises(CheckpointError, match="checkpoint-10, checkpoint-9 cannot be used"):
        resolve(wanted, tmp_path)


def stranger(folder: Path, kind: str) -> None:
    path = folder / "checkpoint-900"
    path.mkdir()
    if kind == "foreign":
        (path / "notes.txt").write_text("mine")


@pytest.mark.parametrize("kind", ["empty", "foreign"])
def test_a_folder_that_is_no_checkpoint_is_passed_over(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger(tmp_path, kind)
    assert resolve("auto", tmp_path) is None
    with pytest.raises(CheckpointError, match="No valid checkpoint found.*leave out resume_from_checkpoint"):
        resolve(True, tmp_path)
    good = checkpoint(tmp_path, 4)
    assert resolve("auto", tmp_path) == resolve(True, tmp_path) == good
    assert {record.getMessage() for record in caplog.records} == {
        f"{tmp_path / 'checkpoint-900'} is no checkpoint. It is passed over."
    }


def test_without_any_checkpoint_auto_starts_from_the_beginning(tmp_path: Path) -> None:
    assert resolve("auto", tmp_path) is None
    assert resolve("auto", tmp_path / "nowhere") is None
    with pytest.raises(CheckpointError, match="No valid checkpoint found.*leave out resume_from_checkpoint"):
        resolve(True, tmp_path)


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3)
    checkpoint(tmp_path, 4)
    assert resolve(path, tmp_path) == path
    assert resolve(Path(path), tmp_path) == path


@pytest.mark.parametrize(("make", "reason"), [(False, "no such folder"), (True, "no trainer_state.json")])
def test_a_path_that_is_no_checkpoint_says_why(make: bool, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "somewhere"
    if make:
        path.mkdir()
    with pytest.raises(CheckpointError, match=f"Can't find a valid checkpoint at .*somewhere.*{reason}"):
        resolve(str(path), tmp_path)


def test_a_path_that_is_broken_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    checkpoint(tmp_path, 3)
    path = checkpoint(tmp_path, 4)
    damage(path)
    with pytest.raises(CheckpointError, match="checkpoint-4 is broken: model.safetensors has"):
        resolve(path, tmp_path)


class SecondOfTwo(Strategy):
    """A process that is told what the first has found."""

    def __init__(self, told: list[Any]) -> None:
        super().__init__(World(rank=1, local_rank=1, size=2), torch.device("cpu"))
        self.told = told

    def gather_objects(self, value: Any) -> list[Any]:
        return [self.told.pop(0), value]


def test_processes_that_do_not_look_follow_the_one_that_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = checkpoint(tmp_path, 3)
    checkpoint(tmp_path, 4)  # whole here, broken on the main process's disk
    other = Resolver(SecondOfTwo(["checkpoint-4 is broken.", None]), looks=False)
    assert other.resolve(True, str(tmp_path)) == good
    assert caplog.records == []  # the main process says it
    with pytest.raises(CheckpointError, match="checkpoint-4 is broken"):
        Resolver(SecondOfTwo(["checkpoint-4 is broken."]), looks=False).resolve(good, str(tmp_path))


def test_a_machine_with_a_disk_of_its_own_has_a_say(tmp_path: Path) -> None:
    good = checkpoint(tmp_path, 3)
    damage(checkpoint(tmp_path, 4))  # whole on the main process's disk
    assert Resolver(SecondOfTwo([None, None]), looks=True).resolve(True, str(tmp_path)) == good


def state_of(best: str | Path) -> TrainerState:
    return TrainerState(best_metric=0.5, best_global_step=3, best_model_checkpoint=str(best))


def test_the_best_of_a_folder_that_was_moved_is_found(tmp_path: Path) -> None:
    """Beside the checkpoint that the run goes on from, also if the former folder is still there."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        best = checkpoint(tmp_path / name, 3)
    for gone in (False, True):
        state = state_of(tmp_path / ("gone" if gone else "old") / "checkpoint-3")
        Resolver(STRATEGY, looks=True).forget_broken_best(state, str(tmp_path / "new" / "checkpoint-4"))
        assert state.best_model_checkpoint == best


@pytest.mark.parametrize("how", ["gone", "broken", "empty"])
def test_a_best_checkpoint_that_is_lost_is_forgotten_and_said(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = tmp_path / "checkpoint-3"
    if how != "gone":
        checkpoint(tmp_path, 3, manifest=how == "broken")
        damage(str(best)) if how == "broken" else (best / "model.safetensors").unlink()
    state = state_of(best)
    resolver = Resolver(STRATEGY, looks=True)
    resolver.forget_broken_best(state, str(tmp_path / "checkpoint-4"))
    assert (state.best_model_checkpoint, state.best_global_step, state.best_metric) == (None, None, 0.5)
    assert "best model so far is lost" in caplog.text
    with pytest.raises(CheckpointError, match="checkpoint-3"):
        resolver.require_weights(str(best))


def test_a_best_checkpoint_with_whole_weights_stays(tmp_path: Path) -> None:
    best = checkpoint(tmp_path, 3)
    damage(best, "trainer_state.json")  # which nobody reads
    state = state_of(best)
    Resolver(STRATEGY, looks=True).forget_broken_best(state, str(tmp_path / "checkpoint-4"))
    assert state.best_model_checkpoint == best
    Resolver(STRATEGY, looks=True).require_weights(best)
