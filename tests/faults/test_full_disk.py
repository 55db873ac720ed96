"""A disk that is full: is it said, are earlier checkpoints whole, and does the training go on once there is room?"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etude.errors import CheckpointError
from tests import helpers
from tests.contracts.resuming import assert_same_run, build, finish, visible_checkpoints
from tests.distributed.launch import REPOSITORY, child_environment
from tests.faults.full_disk import written
from tests.faults.sweep import SCENARIO, broken, litter

ALONE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What happened on a small disk: with a run that stops, and with one that goes on."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "probe").mkdir()
    try:
        subprocess.run(
            [*ALONE, "mount", "-t", "tmpfs", "none", folder / "probe"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    done = subprocess.run(
        [*ALONE, sys.executable, "-m", "tests.faults.full_disk", str(folder)],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_full_disk_stops_the_run_and_spares_what_is_there(reports: list[dict[str, Any]]) -> None:
    stopped = reports[0]
    assert "checkpoint of step 4 could not be written" in stopped["error"]
    assert "No space left on device" in stopped["error"]
    assert "Earlier checkpoints are whole" in stopped["error"]
    assert stopped["left"] == ["checkpoint-2"]
    assert stopped["broken"] == stopped["litter"] == []


def test_the_run_goes_on_once_there_is_room(reports: list[dict[str, Any]]) -> None:
    assert reports[0]["same"]


def test_a_run_that_goes_on_without_a_checkpoint_writes_the_next(reports: list[dict[str, Any]]) -> None:
    """And no row of its log is lost."""
    _, went_on = reports
    assert "checkpoint of step 4 could not be written" in went_on["told"]
    assert "No space left on device" in went_on["told"]
    assert went_on["left"] == ["checkpoint-8"]
    assert went_on["broken"] == []
    assert went_on["same"]


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """What needs neither a disk nor rights: larger files cannot be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Room:
    """Files may be large up to some step, and from another one on."""

    def __init__(self, until: int, again: int) -> None:
        self.until, self.again = until, again
        self.limit: Any = None

    def callback(self, lib: Any) -> Any:
        def on_step_begin(_: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (self.until, self.again):
                written()
            if state.global_step == self.until:
                self.limit = no_file_above(5000)
                self.limit.__enter__()
            if state.global_step == self.again:
                self.close()

        return type("Limit", (lib.TrainerCallback,), {"on_step_begin": on_step_begin})()

    def close(self) -> None:
        if self.limit is not None:
            self.limit.__exit__(None, None, None)
        self.limit = None


LONG = SCENARIO.having(max_steps=8, save_total_limit=None)


@pytest.mark.parametrize("background", [True, False])
def test_files_that_cannot_be_written(
    background: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both policies, in the loop and beside it."""
    scenario = LONG.having(save_in_background=background)
    whole = finish(scenario, tmp_path / "whole")
    with helpers.library("etude") as lib:
        room = Room(3, 99)
        try:
            with pytest.raises(CheckpointError, match=r"step 4 could not be written.*File too large"):
                build(scenario, tmp_path / "stopped", lib, [room.callback(lib)]).train()
        finally:
            room.close()
        assert visible_checkpoints(tmp_path / "stopped") == ["checkpoint-2"]
        assert_same_run(finish(scenario, tmp_path / "stopped", resume=True), whole)
        room = Room(3, 5)
        with caplog.at_level(logging.WARNING):
            build(
                scenario.having(on_save_error="continue"), tmp_path / "went on", lib, [room.callback(lib)]
            ).train()
    assert "The training goes on without it." in caplog.text
    assert visible_checkpoints(tmp_path / "went on") == ["checkpoint-2", "checkpoint-6", "checkpoint-8"]
    assert broken(tmp_path / "went on") == litter(tmp_path / "went on") == []
