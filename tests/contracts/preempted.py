"""A training as a process of its own, for tests that send it signals: `python -m tests.contracts.preempted FOLDER`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests import helpers
from tests.contracts.resuming import BASE, Augmented, Result, Scenario, build, finish, read_log_file
from tests.distributed.launch import REPOSITORY, child_environment

SECONDS = 60  # after which a process counts as stuck


class Slow(Augmented):
    """Rows that take their time, so that a signal meets every part of a run."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        time.sleep(0.004)
        return super().__getitem__(index)


SLOW = replace(BASE, rows=lambda: Slow(helpers.feature_rows(40).rows)).having(num_train_epochs=4)
SCENARIOS: dict[str, Scenario] = {
    "plain": SLOW,
    "workers": SLOW.having(dataloader_num_workers=2),
    "by-clock": SLOW.having(save_steps="0.25s"),
    "short": SLOW.having(max_time="1.2s"),
    "fork-server": SLOW.having(dataloader_num_workers=1, dataloader_multiprocessing_context="forkserver"),
}


class Process:
    """One rank of a training."""

    def __init__(self, name: str, folder: Path, rank: int = 0, world: int = 1, port: int = 0) -> None:
        self.log = folder / "log.jsonl"
        self._before = self.log.read_bytes() if self.log.exists() else b""
        environment = child_environment()
        if world > 1:
            ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
            environment |= {key: str(value) for key, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.contracts.preempted", name, str(folder)],
            cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def until_rows(self, count: int) -> None:
        """Waits until the run has logged so many rows more."""
        goal = self._before.count(b"\n") + count
        self._until(lambda: self.log.exists() and self.log.read_bytes().count(b"\n") >= goal)

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}\n{self.ended()[1]}"
            assert time.monotonic() < end, "stuck"
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        """Sends a signal to this process alone."""
        self.popen.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Sends a signal to this process and the processes that load its data."""
        os.killpg(self.popen.pid, number)

    def ended(self) -> tuple[int, str]:
        """The exit code, and what was printed."""
        try:
            _, printed = self.popen.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise
        return self.popen.returncode, printed


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ranks(name: str, folder: Path, world: int) -> list[Process]:
    """All processes of a training."""
    port = free_port()
    return [Process(name, folder, rank, world, port) for rank in range(world)]


def uninterrupted(name: str, folder: Path) -> Result:
    """The run that nothing disturbs, in this process and without waiting at each row."""
    scenario = SCENARIOS[name].having(max_time=None)
    return finish(replace(scenario, rows=BASE.rows), folder)


def result(folder: Path) -> Result | None:
    """What a run that is done has left."""
    path = folder / "result.pt"
    return Result(*torch.load(path, weights_only=False)) if path.exists() else None


def main() -> None:
    """Trains, from the newest checkpoint on if there is one, and keeps the result."""
    torch.set_num_threads(1)
    name, folder = sys.argv[1], Path(sys.argv[2])
    with helpers.library("etude") as lib:
        trainer = build(SCENARIOS[name], folder, lib)
        output = trainer.train(resume_from_checkpoint="auto")
    if trainer.args.process_index == 0:
        rows = helpers.without_timing(trainer.state.log_history)
        left = [helpers.weights_of(trainer.model), rows, read_log_file(folder), output]
        torch.save(left, folder / "result.pt")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
