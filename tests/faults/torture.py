"""`kill -9` at random instants, again and again, half of them while a checkpoint is being written.

Run as ``python -m tests.faults.torture [--kills N] [--seed N]``. Each scenario is run to its end once without being
disturbed. Then it is started, killed, and started again with the same command until it has come to its end, and all
over until it was killed often enough. Weights (sha256) and every log row have to be those of the undisturbed run.
Prints a line for each kill. The instants are drawn from the seed; what they hit depends on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from etude.checkpoint.store import CheckpointStore
from tests.contracts.resuming import BASE, SCENARIOS, Result, Scenario, Stream, finish, visible_checkpoints
from tests.faults.sweep import broken, litter

OFTEN = {"save_steps": 1, "save_total_limit": 2}
# All with dropout, accumulation, and noise in the data that comes from the random generators.
TORTURED: dict[str, Scenario] = {
    "map": BASE.having(**OFTEN),
    "map, 2 workers": BASE.having(**OFTEN, dataloader_num_workers=2),
    "stream": replace(BASE, rows=lambda: Stream(400, noisy=True)).having(**OFTEN, max_steps=15),
    "stream, 2 workers": replace(BASE, rows=lambda: Stream(400, noisy=True)).having(
        **OFTEN, max_steps=15, dataloader_num_workers=2
    ),
    "early stopping": SCENARIOS["early-stopping"].having(save_steps=3, save_total_limit=2),
    "early stopping, 2 workers": SCENARIOS["early-stopping"].having(
        save_steps=3, save_total_limit=2, dataloader_num_workers=2
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What must not depend on being killed."""

    weights: str
    rows: str

    @staticmethod
    def of(result: Result) -> Outcome:
        """The hash of all weights, and every row of the history and of the log file."""
        digest = hashlib.sha256()
        for name, tensor in sorted(result.weights.items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return Outcome(digest.hexdigest(), json.dumps([result.rows, result.file_rows], sort_keys=True))


class Process:
    """A run in a process of its own, as a script would start it."""

    def __init__(self, scenario: Scenario, folder: Path, target: Path) -> None:
        self.began = time.perf_counter()
        self._saves, told = os.pipe()
        os.set_blocking(self._saves, False)
        self.seen = 0
        self.id = os.fork()
        if self.id == 0:
            os.setsid()  # its loading processes die with it
            self._work(lambda: self._run(scenario, folder, target, told))
        os.close(told)

    @staticmethod
    def _work(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            os._exit(1)
        os._exit(0)

    @staticmethod
    def _run(scenario: Scenario, folder: Path, target: Path, told: int) -> None:
        stage = CheckpointStore.stage

        def telling(store: CheckpointStore, step: int) -> Any:
            os.write(told, b".")
            return stage(store, step)

        CheckpointStore.stage = telling  # type: ignore[method-assign]
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        resume = bool(folder.exists() and visible_checkpoints(folder))
        outcome = Outcome.of(finish(scenario, folder, resume=resume or None))
        unfinished = target.with_suffix(".unfinished")
        unfinished.write_text(json.dumps([outcome.weights, outcome.rows]))
        unfinished.replace(target)

    def has_ended(self) -> bool:
        """Whether it is over."""
        return os.waitid(os.P_PID, self.id, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def saves(self) -> int:
        """How many saves have begun."""
        with contextlib.suppress(BlockingIOError):
            self.seen += len(os.read(self._saves, 100))
        return self.seen

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds; False: the process has ended before."""
        while not condition():
            if self.has_ended():
                return False
            time.sleep(0.0002)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait some time; False: the process has ended before."""
        end = time.perf_counter() + seconds
        return self.wait_for(lambda: time.perf_counter() >= end)

    def end(self, kill: bool) -> int:
        """Its exit status, after a kill if so wanted."""
        if kill:
            os.killpg(self.id, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.id, 0)[1])
        os.close(self._saves)
        return status


class Torture:
    """One scenario, killed again and again."""

    def __init__(self, name: str, base: Path, chance: random.Random) -> None:
        self.name, self.base, self.chance = name, base, chance
        self.scenario = TORTURED[name]
        self.target = base / "outcome.json"
        process = Process(self.scenario, base / "whole", self.target)
        assert process.end(kill=False) == 0, f"{name}: the undisturbed run fails"
        self.seconds = time.perf_counter() - process.began
        self.whole = self.target.read_text()
        self.wrong: list[str] = []

    def kill(self, times: int, first: int) -> None:
        """Kill runs of the scenario, as often as said, each until it has come to its end."""
        done, run = 0, 0
        while done < times:
            run += 1
            folder = self.base / f"run-{run}"
            self.target.unlink(missing_ok=True)
            while not self.target.exists():
                where = (
                    self.strike(folder, aimed=(first + done) % 2 == 0) if done < times else self.let(folder)
                )
                if where is None:
                    continue
                done += 1
                problems = broken(folder) if folder.exists() else []
                left = visible_checkpoints(folder)[-1:] if folder.exists() else []
                print(
                    f"kill {first + done - 1:3}  {self.name:<26} run {run:2}  {where:<34} "
                    f"{'broken: ' + str(problems) if problems else 'goes on from ' + (left or ['the beginning'])[0]}",
                    flush=True,
                )
                self.wrong += problems
            self.compare(folder, run)

    def strike(self, folder: Path, aimed: bool) -> str | None:
        """Kill a run: after some saves, within the time that one takes, or at any instant. None: it was faster."""
        process = Process(self.scenario, folder, self.target)
        if aimed:
            saves, delay = self.chance.randint(1, 4), self.chance.uniform(0, 0.03)
            in_time = process.wait_for(lambda: process.saves() >= saves) and process.wait(delay)
        else:
            in_time = process.wait(self.chance.uniform(0, self.seconds))
        after = time.perf_counter() - process.began
        status = process.end(kill=in_time)
        if status == 0:
            return None
        if status != -signal.SIGKILL:
            raise SystemExit(f"{self.name}: the run failed by itself with status {status}")
        inside = folder.exists() and any(name.startswith(".staging-check") for name in litter(folder))
        return f"after {after:5.2f} s, {'inside a save' if inside else 'between saves'}"

    def let(self, folder: Path) -> None:
        """Run to the end."""
        status = Process(self.scenario, folder, self.target).end(kill=False)
        if status != 0:
            raise SystemExit(f"{self.name}: the run failed by itself with status {status}")

    def compare(self, folder: Path, run: int) -> None:
        """Compare a finished run with the undisturbed one."""
        weights, rows = json.loads(self.target.read_text())
        expected_weights, expected_rows = json.loads(self.whole)
        for what, one, other in (("weights", weights, expected_weights), ("log rows", rows, expected_rows)):
            if one != other:
                self.wrong.append(f"{self.name}, run {run}: other {what}")
        self.wrong += [f"{self.name}, run {run}: {name} is left" for name in litter(folder)]
        self.wrong += broken(folder)
        print(
            f"          {self.name:<26} run {run:2}  ended, sha256 of the weights {weights[:16]}", flush=True
        )


def main() -> None:
    """Torture every scenario and say what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, done, wrong = time.perf_counter(), 0, list[str]()
    with tempfile.TemporaryDirectory() as folder:
        finish(BASE, Path(folder) / "warm-up")  # forks then find everything imported
        for number, name in enumerate(TORTURED):
            times = (options.kills - done) // (len(TORTURED) - number)
            torture = Torture(name, Path(folder) / str(number), random.Random(options.seed + number))
            torture.kill(times, done + 1)
            done += times
            wrong += torture.wrong
    print(f"{done} kills in {time.perf_counter() - began:.0f} s: {wrong or 'nothing to tell'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
