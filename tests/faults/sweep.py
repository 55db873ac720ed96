"""Lets every file-system call of a run fail, or kills the run there, starts it again, and reports how it ends.

Run as ``python -m tests.faults.sweep FOLDER MODE:START:STRIDE ...`` in the environment that ``injector`` makes. Prints
a line of JSON for each call, beginning with call number START and going on with every STRIDEth. MODE is

- ``kill``: the process dies just before the call (a write is left half done), and is started again;
- ``replace``: the same, while a run writes checkpoints in place of others of the same step;
- ``EIO``, ``ENOSPC``: the call fails so, the run stops and is started again;
- ``EIO-continue``, ``ENOSPC-continue``: the same, and the run goes on, as `on_save_error` says.

Each run is a fork of this process, which saves the import.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from etude.checkpoint.manifest import Manifest
from etude.errors import CheckpointError
from tests import helpers
from tests.contracts.resuming import BASE, Scenario, finish, visible_checkpoints
from tests.faults.injector import KILL, Call, arm, read

# Three updates an epoch; a checkpoint in the middle of each of two epochs, the second of which replaces the first.
SCENARIO: Scenario = replace(BASE, rows=lambda: helpers.feature_rows(24)).having(
    save_total_limit=1, save_steps=2, eval_steps=2, max_steps=4, metric_for_best_model=None
)
MODES = ("kill", "replace", "EIO", "ENOSPC", "EIO-continue", "ENOSPC-continue")
TOLD = 3  # exit status of a run that said that a checkpoint could not be written


def in_child(action: Callable[[], None]) -> int:
    """Run ``action`` in a fork and return its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 0
        try:
            action()
        except CheckpointError:
            status = TOLD
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_and_save(folder: Path, resume: bool | str | None, target: Path, **arguments: Any) -> None:
    """Run to the end and keep the result."""
    result = finish(SCENARIO.having(**arguments), folder, resume=resume)
    torch.save([result.weights, result.rows, result.file_rows, result.output.training_loss], target)


def same(one: Path, other: Path) -> bool:
    """Whether two kept results are equal, bit for bit."""
    ours, theirs = torch.load(one), torch.load(other)
    return ours[1:] == theirs[1:] and all(torch.equal(ours[0][name], theirs[0][name]) for name in theirs[0])


def broken(folder: Path) -> list[str]:
    """Checkpoints that are visible and not whole."""
    found = []
    for name in visible_checkpoints(folder) if folder.exists() else []:
        try:
            manifest = Manifest.load(folder / name)
            assert manifest is not None
            manifest.verify(folder / name)
        except (AssertionError, CheckpointError) as error:
            found.append(f"{name}: {error}")
    return found


def litter(folder: Path) -> list[str]:
    """What no run that has ended should leave."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


class Sweep:
    """Runs of the scenario in a folder, each with one call that fails."""

    def __init__(self, base: Path, mode: str) -> None:
        self.base, self.mode = base, mode
        self.whole = base / "whole.pt"
        self.begin(base / "run")
        assert in_child(lambda: run_and_save(base / "plain", None, self.whole)) == 0
        assert in_child(lambda: self.run(base / "run", base / "counted", None)) == 0
        shutil.rmtree(base / "plain")
        self.calls = [call for call in read(base / "counted")[0] if self.counts(call)]

    def counts(self, call: Call) -> bool:
        """Whether this call fails in this mode."""
        if self.mode == "replace":
            return "replaced" in call.path or (call.name == "rename" and call.of_a_save)
        return self.mode == "kill" or (call.of_a_save and ("EIO" in self.mode or call.needs_room))

    def begin(self, folder: Path) -> None:
        """What is there before the run."""
        shutil.rmtree(folder, ignore_errors=True)
        if self.mode == "replace":
            assert in_child(lambda: run_and_save(folder, None, self.base / "all.pt", save_total_limit=9)) == 0

    def run(self, folder: Path, book: Path, call: Call | None) -> None:
        """The run in which the call fails."""
        book.unlink(missing_ok=True)
        error: int = getattr(errno, self.mode.removesuffix("-continue"), KILL)
        first = str(folder / "checkpoint-2") if self.mode == "replace" else None
        policy = {"on_save_error": "continue"} if self.mode.endswith("-continue") else {}
        arm(folder, book, call, error)
        run_and_save(folder, first, self.base / "run.pt", **policy)

    def meet(self, call: Call) -> dict[str, Any]:
        """Let one call fail, start the run again where it has stopped, and say what is left."""
        folder, book, again = self.base / "run", self.base / "book", 0
        self.begin(folder)
        status = in_child(lambda: self.run(folder, book, call))
        report: dict[str, Any] = {"hit": read(book)[1], "status": status, "broken": broken(folder)}
        report["left"] = visible_checkpoints(folder) if folder.exists() else []
        if status != 0:
            resume = True if report["left"] else None
            again = in_child(lambda: run_and_save(folder, resume, self.base / "run.pt"))
        report["same"] = again == 0 and same(self.base / "run.pt", self.whole)
        return {**report, "again": again, "litter": litter(folder), "broken later": broken(folder)}


def main() -> None:
    """Sweep and print one line of JSON for each call."""
    torch.set_num_threads(1)
    base = Path(sys.argv[1])
    finish(SCENARIO, base / "warm-up")  # forks then find everything imported
    finish(SCENARIO, base / "warm-up", resume=True)
    for wanted in sys.argv[2:]:
        mode, start, stride = wanted.split(":")
        sweep = Sweep(base, mode)
        for call in sweep.calls[int(start) :: int(stride)]:
            report = {"mode": mode, "call": str(call), "removal": call.of_a_removal, **sweep.meet(call)}
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
