"""Asked to stop by a signal or by the clock: does the run leave with a checkpoint, and go on as if never stopped?"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from etude.errors import Preempted
from tests import helpers
from tests.contracts.preempted import Process, ranks, result, uninterrupted
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
from tests.contracts.test_resume import PHASES

AT_END = {("on_step_end", 5), ("on_prediction_step", 8), ("on_epoch_end", 5)}
# Fast: each phase in the middle of an epoch, and some at its end. Slow: at every step.
SIGNALS = [
    pytest.param(phase, step, marks=() if step == 7 or (phase, step) in AT_END else pytest.mark.slow)
    for phase in PHASES
    for step in range(1, 15)
    if (phase, step) not in {("on_epoch_begin", late) for late in range(11, 15)}
]
SLOW = pytest.mark.slow


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


def newest(folder: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    names = visible_checkpoints(folder)
    return int(names[-1].partition("-")[2]) if names else 0


@pytest.mark.parametrize(("phase", "step"), SIGNALS)
def test_signal_in_any_phase_leaves_no_trace(
    phase: str, step: int, whole: Callable[[str], Result], tmp_path: Path
) -> None:
    left = stopped(BASE, tmp_path, phase, step)
    assert left.code == 143  # type: ignore[attr-defined]
    assert step <= newest(tmp_path) <= step + 5  # the next time that there is this event
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("stream", "early-stopping") else SLOW) for n in SCENARIOS]
)
@pytest.mark.parametrize(("phase", "step"), [("on_prediction_step", 8), ("on_substep_end", 9)])
def test_signal_in_any_scenario_leaves_no_trace(
    name: str, phase: str, step: int, whole: Callable[[str], Result], tmp_path: Path
) -> None:
    stopped(SCENARIOS[name], tmp_path, phase, step)
    assert_same_run(finish(SCENARIOS[name], tmp_path, resume=True), whole(name))


@pytest.mark.parametrize("phase", ["on_step_begin", "on_prediction_step"])
def test_many_stops_leave_no_trace(phase: str, whole: Callable[[str], Result], tmp_path: Path) -> None:
    while newest(tmp_path) < (11 if phase == "on_step_begin" else 8):
        stopped(BASE, tmp_path, phase, newest(tmp_path) + 1, resume="auto")
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


def test_stopped_evaluation_is_made_again(tmp_path: Path, whole: Callable[[str], Result]) -> None:
    """The signal comes in the first batch of an evaluation, and no further batch is looked at."""
    stopped(BASE, tmp_path, "on_prediction_step", 8)
    history = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())["log_history"]
    assert [row["step"] for row in history if "eval_loss" in row] == [4]
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin"])
def test_signal_before_the_first_step(event: str, tmp_path: Path, whole: Callable[[str], Result]) -> None:
    stopped(BASE, tmp_path, event, 0)
    assert newest(tmp_path) == {"on_train_begin": 0, "on_epoch_begin": 1}[event]
    assert_same_run(finish(BASE, tmp_path, resume="auto"), whole("base"))


def test_signal_before_the_first_step_of_a_resumed_run(
    tmp_path: Path, whole: Callable[[str], Result]
) -> None:
    stopped(BASE, tmp_path, "on_step_begin", 7)
    before = (tmp_path / "checkpoint-8").stat()
    stopped(BASE, tmp_path, "on_train_begin", 0, resume=True)
    assert (tmp_path / "checkpoint-8").stat() == before
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


def test_signal_in_the_evaluation_before_the_first_step(tmp_path: Path) -> None:
    scenario = BASE.having(eval_on_start=True)
    whole = finish(scenario, tmp_path / "whole")
    stopped(scenario, tmp_path / "run", "on_prediction_step", 0)
    assert newest(tmp_path / "run") == 0
    assert_same_run(finish(scenario, tmp_path / "run", resume="auto"), whole)


def test_evaluation_whose_first_row_is_filed_is_finished(tmp_path: Path) -> None:
    """Several data sets have a row each: those that are there may not come a second time."""

    def trained(folder: Path, callbacks: list[Any], resume: Any = None) -> Any:
        with helpers.library("etude") as lib:
            trainer = build(BASE, folder, lib, callbacks)
            rows = trainer.eval_dataset
            trainer.eval_dataset = {"one": rows, "two": rows}
            trainer.args.metric_for_best_model = "one_accuracy"
            if callbacks:
                with pytest.raises(Preempted):
                    trainer.train()
            else:
                trainer.train(resume_from_checkpoint=resume)
            return trainer

    whole = trained(tmp_path / "whole", [])
    with helpers.library("etude") as lib:
        caller = make_caller(lib, "on_evaluate", 8, signal.SIGTERM)  # after "one", before "two"
    stopped_run = trained(tmp_path / "run", [caller])
    assert [row["step"] for row in stopped_run.state.log_history if "eval_two_loss" in row] == [4, 8]
    again = trained(tmp_path / "run", [], resume=True)
    assert helpers.without_timing(again.state.log_history) == helpers.without_timing(whole.state.log_history)
    helpers.assert_identical(helpers.weights_of(again.model), helpers.weights_of(whole.model))


@pytest.mark.parametrize("phase", ["on_prediction_step", "on_epoch_end"])
def test_stop_after_the_last_step_leaves_no_trace(phase: str, tmp_path: Path) -> None:
    """The end of the epoch is evaluated and saved when there is no step left to do."""
    scenario = SCENARIOS["stream"].having(eval_strategy="epoch", save_strategy="epoch")
    whole = finish(scenario, tmp_path / "whole")
    stopped(scenario, tmp_path / "run", phase, 15)
    assert_same_run(finish(scenario, tmp_path / "run", resume=True), whole)


def test_stop_where_a_callback_had_stopped_the_run_leaves_no_trace(tmp_path: Path) -> None:
    """In the middle of an epoch, whose end is still to be logged."""
    scenario = SCENARIOS["early-stopping"].having(logging_strategy="epoch")
    whole = finish(scenario, tmp_path / "whole")
    assert whole.output.global_step % 5
    stopped(scenario, tmp_path / "run", "on_save", whole.output.global_step)
    assert_same_run(finish(scenario, tmp_path / "run", resume=True), whole)


def test_interrupt_saves_and_is_raised(
    tmp_path: Path, whole: Callable[[str], Result], capsys: pytest.CaptureFixture[str]
) -> None:
    left = stopped(BASE, tmp_path, "on_step_begin", 6, signal.SIGINT)
    assert isinstance(left, KeyboardInterrupt)
    assert "Ctrl-C again stops at once" in capsys.readouterr().err
    assert newest(tmp_path) == 7
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


def test_second_interrupt_does_not_wait_for_a_checkpoint(
    tmp_path: Path, whole: Callable[[str], Result]
) -> None:
    with helpers.library("etude") as lib:
        callbacks = [
            make_caller(lib, event, 7, signal.SIGINT) for event in ("on_step_begin", "on_substep_end")
        ]
        trainer = build(BASE, tmp_path, lib, callbacks)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    assert newest(tmp_path) == 6
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


@pytest.mark.parametrize("fields", [{"save_on_signal": False}, {"save_strategy": "no"}])
def test_where_nothing_is_to_be_saved_signals_are_left_alone(fields: dict[str, Any], tmp_path: Path) -> None:
    with helpers.library("etude") as lib:
        scenario = BASE.having(**fields)
        trainer = build(scenario, tmp_path, lib, [make_caller(lib, "on_step_begin", 1, signal.SIGINT)])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    assert trainer.state.global_step == 1
    assert newest(tmp_path) == 0


def test_the_references_name_for_it(tmp_path: Path, whole: Callable[[str], Result]) -> None:
    scenario = BASE.having(save_strategy="no", enable_jit_checkpoint=True)
    stopped(scenario, tmp_path, "on_step_begin", 6)
    assert visible_checkpoints(tmp_path) == ["checkpoint-7"]
    assert_same_run(finish(scenario, tmp_path, resume=True), whole("base"))


def test_training_in_another_thread_changes_no_handler(
    tmp_path: Path, whole: Callable[[str], Result]
) -> None:
    before, seen, results = signal.getsignal(signal.SIGTERM), [], []

    def look(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    def work() -> None:
        with helpers.library("etude") as lib:
            looking = type("Looking", (lib.TrainerCallback,), {"on_step_end": look})()
            trainer = build(BASE, tmp_path, lib, [looking])
            trainer.train()
            results.append(helpers.weights_of(trainer.model))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(seen) == {before}
    helpers.assert_identical(results[0], whole("base").weights)


def test_failing_checkpoint_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the policy to go on without it, the run leaves all the same, and does not pretend."""
    scenario = BASE.having(on_save_error="continue")

    def block(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 7:
            (tmp_path / ".staging-checkpoint-8").write_text("in the way")
            os.kill(os.getpid(), signal.SIGTERM)

    with helpers.library("etude") as lib:
        blocking = type("Blocking", (lib.TrainerCallback,), {"on_step_begin": block})()
        trainer = build(scenario, tmp_path, lib, [blocking])
        with pytest.raises(Preempted):
            trainer.train()
    assert "checkpoint-8 is NOT written" in caplog.text
    assert newest(tmp_path) == 6


# --- by the clock -------------------------------------------------------------------------------------------------


def test_checkpoints_by_the_clock_do_not_change_the_run(
    tmp_path: Path, whole: Callable[[str], Result]
) -> None:
    scenario = BASE.having(save_steps="0.001s")
    assert_same_run(finish(scenario, tmp_path), whole("base"))
    assert len(visible_checkpoints(tmp_path)) > 5
    assert_same_run(
        finish(scenario, tmp_path, resume=str(tmp_path / visible_checkpoints(tmp_path)[3])), whole("base")
    )


def test_operations_add_up_however_often_they_are_filed(tmp_path: Path) -> None:
    """Even where there are more of them than a float tells apart."""

    def operations(folder: Path, save_steps: Any) -> float:
        with helpers.library("etude") as lib:
            methods = {"floating_point_ops": lambda self, inputs: 2**53 + 1}
            scenario = BASE.having(save_steps=save_steps, logging_steps=100, eval_strategy="no")
            trainer = build(scenario, folder, lib, trainer_class=type("Counting", (lib.Trainer,), methods))
            return float(trainer.train().metrics["total_flos"])

    whole = float(30 * (2**53 + 1))
    assert operations(tmp_path / "one", "0.001s") == operations(tmp_path / "other", 100) == whole


def test_the_end_of_a_run_is_saved_although_the_clock_does_not_ask(tmp_path: Path) -> None:
    finish(BASE.having(save_steps="1d"), tmp_path)
    assert visible_checkpoints(tmp_path) == ["checkpoint-15"]


def test_the_reference_reads_the_state_of_a_run_by_the_clock(tmp_path: Path) -> None:
    finish(BASE.having(save_steps="30min", num_train_epochs=1), tmp_path)
    with helpers.library("transformers") as lib:
        state = lib.TrainerState.load_from_json(str(tmp_path / "checkpoint-5" / "trainer_state.json"))
    assert (state.save_steps, state.global_step) == (0, 5)


def test_runs_whose_time_is_up_go_on_step_by_step(
    tmp_path: Path, whole: Callable[[str], Result], caplog: pytest.LogCaptureFixture
) -> None:
    scenario = BASE.having(max_time=1e-6, save_strategy="no")
    for step in range(1, 15):
        with helpers.library("etude") as lib, pytest.raises(Preempted) as left:
            build(scenario, tmp_path, lib).train(resume_from_checkpoint="auto")
        assert (left.value.code, newest(tmp_path)) == (75, step)
    assert "Stopped at step 14 of 15 by max_time: checkpoint-14 is written." in caplog.text
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


# --- processes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """The uninterrupted run of a scenario for processes, made once."""
    made: dict[str, Result] = {}

    def get(name: str) -> Result:
        if name not in made:
            made[name] = uninterrupted(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        pytest.param("plain", signal.SIGTERM, 143, marks=SLOW),
        pytest.param("plain", signal.SIGINT, -signal.SIGINT, marks=SLOW),
        pytest.param("plain", signal.SIGUSR1, 128 + signal.SIGUSR1, marks=SLOW),
        pytest.param("by-clock", signal.SIGTERM, 143, marks=SLOW),
    ],
)
def test_process_leaves_with_its_code(
    name: str, number: int, code: int, tmp_path: Path, undisturbed: Callable[[str], Result]
) -> None:
    process = Process(name, tmp_path)
    process.until_rows(3)
    process.signal(number)
    assert process.ended()[0] == code
    assert result(tmp_path) is None
    assert Process(name, tmp_path).ended()[0] == 0
    assert_same_run(result(tmp_path), undisturbed(name))


@SLOW
def test_process_whose_time_is_up_goes_on(tmp_path: Path, undisturbed: Callable[[str], Result]) -> None:
    codes = []
    while not codes or codes[-1] == 75:
        codes.append(Process("short", tmp_path).ended()[0])
    assert codes[-1] == 0
    assert len(codes) > 1
    assert_same_run(result(tmp_path), undisturbed("short"))


@SLOW
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["workers", "fork-server"])
def test_signal_to_the_whole_group_does_not_lose_the_loading_processes(
    name: str, number: int, tmp_path: Path, undisturbed: Callable[[str], Result]
) -> None:
    """As from a terminal, from `timeout` and from some schedulers."""
    process = Process(name, tmp_path)
    process.until_rows(3)
    process.signal_group(number)
    code, printed = process.ended()
    assert code == (143 if number == signal.SIGTERM else -number), printed
    assert "is written" in printed
    assert Process(name, tmp_path).ended()[0] == 0
    assert_same_run(result(tmp_path), undisturbed(name))


@SLOW
@pytest.mark.parametrize("seed", range(4))
def test_processes_stopped_at_random_instants(
    seed: int, tmp_path: Path, undisturbed: Callable[[str], Result]
) -> None:
    numbers = random.Random(seed)
    name = numbers.choice(["plain", "workers", "by-clock"])
    for _ in range(4):
        process = Process(name, tmp_path)
        process.until_rows(1)
        time.sleep(numbers.random() * 0.2)
        process.signal(numbers.choice([signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]))
        if process.ended()[0] == 0:
            break
    if result(tmp_path) is None:
        assert Process(name, tmp_path).ended()[0] == 0
    assert_same_run(result(tmp_path), undisturbed(name))


@SLOW
@pytest.mark.distributed
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("name", ["plain", "by-clock"])
def test_signal_to_one_rank_stops_both_at_one_step(name: str, victim: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert [process.ended()[0] for process in ranks("plain", tmp_path / "whole", 2)] == [0, 0]
    processes = ranks(name, folder, 2)
    processes[0].until_rows(2)
    began = time.monotonic()
    processes[victim].signal(signal.SIGTERM)
    assert [process.ended()[0] for process in processes] == [143, 143]
    assert time.monotonic() - began < 10
    state = json.loads((folder / f"checkpoint-{newest(folder)}" / "etude_state.json").read_text())
    assert len(state["progress"]) == 2
    assert [process.ended()[0] for process in ranks(name, folder, 2)] == [0, 0]
    assert_same_run(result(folder), result(tmp_path / "whole"))


@SLOW
@pytest.mark.distributed
def test_ranks_whose_time_is_up_leave_together(tmp_path: Path) -> None:
    processes = ranks("short", tmp_path, 2)
    assert [process.ended()[0] for process in processes] == [75, 75]
    assert newest(tmp_path) > 0
