"""Asked to stop by a signal or by the clock: does the run leave with a checkpoint, and go on as if never stopped?"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from etude.errors import Preempted
from tests import helpers
from tests.contracts.resuming import (
    BASE,
    SCENARIOS,
    Result,
    Scenario,
    assert_same_run,
    build,
    finish,
    visible_checkpoints,
)
from tests.contracts.test_resume import BREAKS


def make_caller(lib: ModuleType, event: str, step: int, number: int) -> Any:
    """A callback that sends this process a signal at the first `event` at or after `step`."""

    def call(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= step and not self.done:
            self.done = True
            os.kill(os.getpid(), number)

    # as etude's own callbacks do it: nobody has to wait for what looks at the checkpoint
    members = {event: call, "done": False, "same_on_all_processes": True}
    return type("Caller", (lib.TrainerCallback,), members)()


def stopped(
    scenario: Scenario, folder: Path, event: str, step: int, number: int = signal.SIGTERM, resume: Any = None
) -> BaseException:
    """How a run leaves that is sent a signal."""
    with helpers.library("etude") as lib:
        trainer = build(scenario, folder, lib, [make_caller(lib, event, step, number)])
        with pytest.raises((Preempted, KeyboardInterrupt)) as caught:
            trainer.train(resume_from_checkpoint=resume)
    return caught.value


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """The uninterrupted run of a scenario, made once."""
    made: dict[str, Result] = {}

    def get(name: str) -> Result:
        if name not in made:
            made[name] = finish(SCENARIOS[name], tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.mark.parametrize(("phase", "step"), BREAKS)
def test_signal_in_any_phase_leaves_no_trace(
    phase: str, step: int, whole: Callable[[str], Result], tmp_path: Path
) -> None:
    left = stopped(BASE, tmp_path, phase, step)
    assert left.code == 143
    newest = int(visible_checkpoints(tmp_path)[-1].partition("-")[2])
    assert step <= newest <= step + 5
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))
