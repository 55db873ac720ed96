"""Kill a run at every file operation, start it again, and report how it ends.

Run as ``python -m tests.contracts.kill_sweep FOLDER``: the run is killed (SIGKILL) just before each of its operations
that change something in the output folder: opening a file to write, making, renaming and removing files and folders.
An audit hook counts them, so that the sweep does not know how checkpoints are written. Each run is a fork of this
process, which saves the import.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tests import helpers
from tests.contracts.resuming import BASE, Scenario, finish, visible_checkpoints

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Small, and with a limit, so that old checkpoints are removed while new ones are written.
# Three updates an epoch and a checkpoint every second: some at the end of an epoch, most in the middle.
SCENARIO: Scenario = replace(BASE, rows=lambda: helpers.feature_rows(24)).having(
    save_total_limit=2, save_steps=2, eval_steps=2, num_train_epochs=2
)


class Counter:
    """Counts operations that change files under ``folder`` and kills the process before number ``last``."""

    def __init__(self, folder: Path, last: int | None) -> None:
        self.folder = str(folder)
        self.last = last
        self.operations: list[str] = []

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self._changes(event, args):
            if len(self.operations) == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            self.operations.append(f"{event} {args[0]}")

    def _changes(self, event: str, args: tuple[object, ...]) -> bool:
        if event == "open":
            path, mode, flags = args
            written = (
                set(mode) & set("wax+")
                if isinstance(mode, str)
                else isinstance(flags, int) and flags & WRITING
            )
            return bool(written) and str(path).startswith(self.folder)
        if event in ("os.rename", "os.mkdir", "os.truncate"):
            return str(args[0]).startswith(self.folder)
        return event in (
            "os.remove",
            "os.rmdir",
        )  # removing a tree names its entries relative to their folder


def in_child(action: Callable[[], None]) -> int:
    """Run ``action`` in a fork and return its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stderr.flush()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_and_save(folder: Path, resume: bool, target: Path) -> None:
    """Run to the end and keep the result."""
    result = finish(SCENARIO, folder, resume=resume or None)
    torch.save([result.weights, result.rows, result.file_rows, result.output.training_loss], target)


def files_of(folder: Path) -> dict[str, list[str]]:
    """The files of every visible checkpoint."""
    return {
        name: sorted(path.name for path in (folder / name).iterdir()) for name in visible_checkpoints(folder)
    }


def count_operations(folder: Path, target: Path) -> None:
    """Run to the end, keep the result and the operations."""
    counter = Counter(folder, None)
    sys.addaudithook(counter)
    run_and_save(folder, False, target)
    target.with_suffix(".json").write_text(json.dumps(counter.operations))


def kill(folder: Path, last: int) -> None:
    """Run until operation number ``last``."""
    sys.addaudithook(Counter(folder, last))
    finish(SCENARIO, folder)


def main() -> None:
    """Sweep and print one JSON line for each kill."""
    torch.set_num_threads(1)
    base = Path(sys.argv[1])
    finish(SCENARIO, base / "warm-up")  # forks then find everything imported
    assert in_child(lambda: count_operations(base / "whole", base / "whole.pt")) == 0
    operations = json.loads((base / "whole.json").read_text())
    for last in range(len(operations)):
        print(json.dumps({"operation": operations[last], **survive(base, last)}), flush=True)


def survive(base: Path, last: int) -> dict[str, object]:
    """Kill one run, start it again, and say what is left."""
    folder, target = base / f"run-{last}", base / f"run-{last}.pt"
    status = in_child(lambda: kill(folder, last))
    left = files_of(folder) if folder.exists() else {}
    again = in_child(lambda: run_and_save(folder, bool(left), target))
    same = again == 0 and equal(torch.load(target), torch.load(base / "whole.pt"))
    litter = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    return {"number": last, "status": status, "left": left, "again": again, "same": same, "litter": litter}


def equal(ours: list[object], theirs: list[object]) -> bool:
    """Whether two saved results are the same, bit for bit."""
    if ours[1:] != theirs[1:]:
        return False
    (mine, reference) = (ours[0], theirs[0])
    assert isinstance(mine, dict)
    assert isinstance(reference, dict)
    return all(torch.equal(mine[name], reference[name]) for name in reference)


if __name__ == "__main__":
    main()
