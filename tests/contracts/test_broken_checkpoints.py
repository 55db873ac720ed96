"""A checkpoint that was damaged after it had been written: does a run ever go on from a state that is not its own?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from etude.checkpoint.manifest import Manifest, describe_all
from etude.errors import CheckpointError
from tests import helpers
from tests.contracts.resuming import BASE, Result, Scenario, assert_same_run, build, finish
from tests.distributed.launch import run_ranks

# Six updates, a checkpoint every second: the newest of the run that was broken off is in the middle of an epoch.
SCENARIO: Scenario = replace(BASE, rows=lambda: helpers.feature_rows(24)).having(
    num_train_epochs=2, save_steps=2, eval_strategy="no"
)
NEWEST, OLDER = "checkpoint-4", "checkpoint-2"
FILES = (
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    "etude_state.json",
    "training_args.bin",
    "training_args.json",
    "manifest.json",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The uninterrupted run, and what a run that was broken off after four updates leaves."""
    folder = tmp_path_factory.mktemp("whole")
    result = finish(SCENARIO, folder)
    shutil.rmtree(folder / "checkpoint-6")
    return result, folder


@pytest.fixture
def left(whole: tuple[Result, Path], tmp_path: Path) -> Path:
    """A copy of what was left."""
    return Path(shutil.copytree(whole[1], tmp_path / "run"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncated,
    "one-byte-flipped": flipped,
    "deleted": os.unlink,
    "emptied": emptied,
}
FAST = {
    ("model.safetensors", "one-byte-flipped"),
    ("optimizer.pt", "one-byte-flipped"),
    ("rng_state.pth", "truncated"),
    ("trainer_state.json", "deleted"),
    ("manifest.json", "deleted"),
    ("manifest.json", "one-byte-flipped"),
}
CASES = [
    pytest.param(
        name, damage, marks=() if (name, damage) in FAST else pytest.mark.slow, id=f"{name}-{damage}"
    )
    for name in FILES
    for damage in DAMAGES
]


def test_every_file_is_among_the_cases(left: Path) -> None:
    assert {path.name for path in (left / NEWEST).iterdir()} == set(FILES)


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_a_damaged_checkpoint_is_passed_over_or_refused_by_name(
    name: str, damage: str, whole: tuple[Result, Path], left: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`True` goes on from the one before, and ends as if nothing had happened; the path itself is refused."""
    DAMAGES[damage](left / NEWEST / name)
    with pytest.raises(CheckpointError, match=f"{NEWEST} is broken: .*{name}"):
        finish(SCENARIO, left, resume=str(left / NEWEST))
    caplog.clear()
    assert_same_run(finish(SCENARIO, left, resume=True), whole[0])
    (said,) = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert NEWEST in said
    assert name in said


def test_auto_goes_on_from_the_newest_that_is_whole(whole: tuple[Result, Path], left: Path) -> None:
    """The same with the word that also means a first start."""
    flipped(left / NEWEST / "optimizer.pt")
    assert_same_run(finish(SCENARIO, left, resume="auto"), whole[0])


def test_auto_starts_a_run_that_has_not_begun(whole: tuple[Result, Path], tmp_path: Path) -> None:
    """One command for the first start and every other."""
    assert_same_run(finish(SCENARIO, tmp_path, resume="auto"), whole[0])


@pytest.mark.parametrize("content", ["nothing", "a file of mine"])
def test_a_higher_number_alone_is_no_checkpoint(
    content: str, whole: tuple[Result, Path], left: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that is empty, or somebody else's, is passed over and left as it is."""
    stranger = left / "checkpoint-900"
    stranger.mkdir()
    if content != "nothing":
        (stranger / "notes.txt").write_text(content)
    assert_same_run(finish(SCENARIO, left, resume=True), whole[0])
    assert "checkpoint-900 is no checkpoint" in caplog.text
    assert [path.name for path in stranger.iterdir()] == ([] if content == "nothing" else ["notes.txt"])


def test_a_manifest_of_another_checkpoint_does_not_fit(whole: tuple[Result, Path], left: Path) -> None:
    """Every file is whole, and they do not belong together."""
    shutil.copy(left / OLDER / "manifest.json", left / NEWEST / "manifest.json")
    with pytest.raises(CheckpointError, match=f"{NEWEST} is broken"):
        finish(SCENARIO, left, resume=str(left / NEWEST))
    assert_same_run(finish(SCENARIO, left, resume=True), whole[0])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth"])
def test_a_file_of_another_checkpoint_does_not_fit(name: str, whole: tuple[Result, Path], left: Path) -> None:
    """The same sizes, other content."""
    shutil.copy(left / OLDER / name, left / NEWEST / name)
    with pytest.raises(CheckpointError, match=f"{NEWEST} is broken: .*{name}"):
        finish(SCENARIO, left, resume=str(left / NEWEST))


@pytest.mark.parametrize("resume", [True, "auto"])
def test_where_every_checkpoint_is_broken_nothing_begins_anew(resume: Any, left: Path) -> None:
    """A run that starts from the beginning without being told to would overwrite what may still be repaired."""
    for name in (NEWEST, OLDER):
        truncated(left / name / "model.safetensors")
    before = sorted(path.relative_to(left) for path in left.rglob("*"))
    with pytest.raises(CheckpointError, match="checkpoint-4, checkpoint-2 cannot be used"):
        finish(SCENARIO, left, resume=resume)
    assert sorted(path.relative_to(left) for path in left.rglob("*")) == before


# --- several processes --------------------------------------------------------------------------------------------


def damaged_on_two_ranks(folder: Path) -> None:
    """A whole run; and one that goes on where one process's part of the newest checkpoint is broken."""
    shared = SCENARIO.having(per_device_train_batch_size=2)
    with helpers.library("etude") as lib:
        whole = build(shared, folder / "whole", lib)
        whole.train()
        torch.distributed.barrier()
        if whole.is_world_process_zero():
            shutil.copytree(folder / "whole", folder / "broken")
            shutil.rmtree(folder / "broken" / "checkpoint-6")
            flipped(folder / "broken" / NEWEST / "optimizer-00001-of-00002.pt")
        torch.distributed.barrier()
        resumed = build(shared, folder / "broken", lib)
        with pytest.raises(CheckpointError, match=f"{NEWEST} is broken: .*optimizer-00001-of-00002.pt"):
            resumed.train(resume_from_checkpoint=str(folder / "broken" / NEWEST))
        resumed.train(resume_from_checkpoint=True)
        helpers.assert_identical(helpers.weights_of(resumed.model), helpers.weights_of(whole.model))
        assert helpers.without_timing(resumed.state.log_history) == helpers.without_timing(
            whole.state.log_history
        )
    (folder / f"done-{whole.args.world.rank}").write_text("")


@pytest.mark.slow
@pytest.mark.distributed
def test_processes_pass_over_a_checkpoint_together(tmp_path: Path) -> None:
    """The main process looks, and all follow."""
    run_ranks(damaged_on_two_ranks, tmp_path, 2)
    assert len(list(tmp_path.glob("done-*"))) == 2


# --- the best model -----------------------------------------------------------------------------------------------

# The highest loss is called the best, so that the first evaluation is.
BEST = SCENARIO.having(
    eval_strategy="steps",
    eval_steps=2,
    load_best_model_at_end=True,
    metric_for_best_model="loss",
    greater_is_better=True,
)


def test_best_weights_that_are_broken_are_not_loaded(tmp_path: Path) -> None:
    """Damaged while the run went on: an error, as the weights that were asked for cannot be had."""

    def damage(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 6:
            flipped(Path(state.best_model_checkpoint) / "model.safetensors")

    with helpers.library("etude") as lib:
        damaging = replace(
            BEST, callbacks=lambda _: [type("Damaging", (lib.TrainerCallback,), {"on_step_end": damage})()]
        )
    with pytest.raises(CheckpointError, match="is broken: the content of model.safetensors has changed"):
        finish(damaging, tmp_path)


def test_best_weights_that_were_lost_are_told_on_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on, its rows are the same, and it is said that the best model is not to be had."""
    expected = finish(BEST, tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-6")
    truncated(tmp_path / OLDER / "model.safetensors")
    found = finish(BEST, tmp_path, resume=True)
    assert found.rows == expected.rows
    assert "The best model so far is lost" in caplog.text
    assert "keeps its last weights" in caplog.text


# --- what only running code could read ----------------------------------------------------------------------------


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trap}",)


def plant(folder: Path, name: str, trap: Path) -> None:
    """Puts a file that runs a command in place of `name`, and makes the manifest fit."""
    if name.startswith("optimizer-"):
        shutil.copy(folder / "optimizer.pt", folder / "optimizer-00000-of-00002.pt")
        (folder / "optimizer.pt").unlink()
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    content = torch.load(folder / name, weights_only=False) if (folder / name).is_file() else {}
    content = {**(content if isinstance(content, dict) else {}), "state": Malicious(trap)}
    torch.save(content, folder / name)
    Manifest(4, 1, describe_all(folder), {}).save(folder)


PICKLES = (
    "optimizer.pt",
    "optimizer-00001-of-00002.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
    "data_state.pt",
    "pytorch_model.bin",
    "training_args.bin",
)


@pytest.mark.parametrize("name", PICKLES)
def test_no_pickle_is_ever_executed(name: str, left: Path, tmp_path: Path) -> None:
    """In each file that could hold one, although the manifest fits: it is refused by name, or not read at all."""
    trap = tmp_path / "trap"
    plant(left / NEWEST, name, trap)
    if name == "training_args.bin":
        finish(SCENARIO, left, resume=str(left / NEWEST))
    else:
        with pytest.raises(CheckpointError, match=f"{name} holds posix.system"):
            finish(SCENARIO, left, resume=str(left / NEWEST))
    assert not trap.exists()
    torch.load(left / NEWEST / name, weights_only=False)  # the trap is one
    assert trap.exists()
