"""Runs on a small disk of their own that fills up. Prints what happened as JSON.

Run as ``unshare --user --map-root-user --mount python -m tests.faults.full_disk FOLDER``: the disk is a tmpfs that
nobody else sees, and that ends with the process.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from etude.errors import CheckpointError
from tests import helpers
from tests.contracts.resuming import Result, build, finish, read_log_file, visible_checkpoints
from tests.faults.sweep import SCENARIO, broken, litter
from tests.faults.torture import Outcome

LONG = SCENARIO.having(max_steps=8)


def written() -> None:
    """Wait until no checkpoint is being written."""
    for thread in threading.enumerate():
        if thread.name.startswith("checkpoint-"):
            thread.join()


def make_sweeper(lib: ModuleType, ballast: Path, step: int) -> Any:
    """Somebody who makes room at a step."""

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step:
            written()
            ballast.unlink()

    return type("Sweeper", (lib.TrainerCallback,), {"on_step_end": on_step_end})()


def size_of(folder: Path) -> int:
    """What the files of a checkpoint take, in pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.iterdir()) + 4096


def fill(disk: Path, room: int) -> Path:
    """A file that leaves so much room."""
    ballast = disk / "ballast"
    blocks = subprocess.run(
        ["stat", "-f", "-c", "%a %S", disk], check=True, capture_output=True, text=True
    ).stdout
    free, block = (int(number) for number in blocks.split())
    ballast.write_bytes(bytes(free * block - room))
    return ballast


def stopped(disk: Path, room: int, whole: Outcome) -> dict[str, Any]:
    """The disk fills up, the run stops, somebody makes room, and the run is started again."""
    folder, ballast = disk / "stopped", fill(disk, room)
    error = ""
    try:
        finish(LONG, folder)
    except CheckpointError as failure:
        error = str(failure)
    report = {
        "error": error,
        "left": visible_checkpoints(folder),
        "broken": broken(folder),
        "litter": litter(folder),
    }
    ballast.unlink()
    report["same"] = Outcome.of(finish(LONG, folder, resume=True)) == whole
    return report


def went_on(disk: Path, room: int, whole: Outcome) -> dict[str, Any]:
    """The disk fills up, the run goes on, and later there is room again."""
    folder, ballast = disk / "went on", fill(disk, room)
    told = io.StringIO()
    logging.getLogger("etude").addHandler(logging.StreamHandler(told))
    with helpers.library("etude") as lib:
        trainer = build(LONG.having(on_save_error="continue"), folder, lib, [make_sweeper(lib, ballast, 5)])
        output = trainer.train()
    rows = helpers.without_timing(trainer.state.log_history)
    result = Result(helpers.weights_of(trainer.model), rows, read_log_file(folder), output)
    return {
        "told": told.getvalue(),
        "left": visible_checkpoints(folder),
        "broken": broken(folder),
        "same": Outcome.of(result) == whole,
    }


def main() -> None:
    """Fill the disk twice."""
    torch.set_num_threads(1)
    base = Path(sys.argv[1])
    disk = base / "disk"
    disk.mkdir()
    whole = Outcome.of(finish(LONG, base / "whole"))
    size = size_of(base / "whole" / "checkpoint-8")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={20 * size}", "none", str(disk)], check=True)
    reports = []
    for case in (stopped, went_on):
        with contextlib.redirect_stdout(sys.stderr):
            reports.append(case(disk, size + size // 2, whole))
        subprocess.run(["rm", "-r", str(disk / case.__name__.replace("_", " "))], check=True)
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
