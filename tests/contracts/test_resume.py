"""Broken off anywhere and resumed: is the run the one that was never broken off, bit for bit?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import default_collate

from tests import helpers
from tests.contracts.resuming import (
    BASE,
    SCENARIOS,
    CountingRows,
    Result,
    assert_same_run,
    break_off,
    finish,
    visible_checkpoints,
)

PHASES = (
    "on_epoch_begin",
    "on_step_begin",
    "on_substep_end",
    "on_pre_optimizer_step",
    "on_optimizer_step",
    "on_step_end",
    "on_log",
    "on_prediction_step",
    "on_evaluate",
    "on_save",
    "on_epoch_end",
)
# Fast: each phase in the middle and at the end of an epoch. Slow: at every step from the first checkpoint on.
BREAKS = [
    pytest.param(phase, step, marks=() if step in (5, 7) else pytest.mark.slow, id=f"{phase}-{step}")
    for phase in PHASES
    for step in range(3, 15)
    if (phase, step) not in {("on_epoch_begin", late) for late in range(11, 15)}
]


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
def test_break_in_any_phase_leaves_no_trace(
    phase: str, step: int, whole: Callable[[str], Result], tmp_path: Path
) -> None:
    """With dropout, accumulation and random data, whatever was going on when the run broke off."""
    break_off(BASE, tmp_path, phase, max(step, 4) if phase != "on_save" else step)
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


SCENARIO_BREAKS = [("on_step_end", 7), ("on_evaluate", 7), ("on_epoch_end", 10), ("on_step_begin", 10)]


@pytest.mark.parametrize(
    ("phase", "step"), SCENARIO_BREAKS, ids=[f"{phase}-{step}" for phase, step in SCENARIO_BREAKS]
)
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "base" and "worker" not in name])
def test_break_in_any_scenario_leaves_no_trace(
    name: str, phase: str, step: int, whole: Callable[[str], Result], tmp_path: Path
) -> None:
    """For each way to read data, to save and to evaluate."""
    if name.startswith(("stream", "noisy")) and phase == "on_epoch_end":
        phase = "on_log"  # a stream's epoch is the whole run
    break_off(SCENARIOS[name], tmp_path, phase, step)
    assert_same_run(finish(SCENARIOS[name], tmp_path, resume=True), whole(name))


@pytest.mark.parametrize(
    ("name", "phase", "step"),
    [
        ("one-worker", "on_step_end", 7),
        ("two-workers", "on_step_end", 7),
        ("two-workers", "on_epoch_end", 10),
        ("stream-with-worker", "on_step_end", 7),
        pytest.param("one-worker", "on_step_begin", 10, marks=pytest.mark.slow),
        pytest.param("persistent-workers", "on_step_end", 7, marks=pytest.mark.slow),
        pytest.param("persistent-workers", "on_evaluate", 7, marks=pytest.mark.slow),
        pytest.param("batch-rebalance-with-workers", "on_step_end", 8, marks=pytest.mark.slow),
        pytest.param("batch-rebalance-with-workers", "on_evaluate", 8, marks=pytest.mark.slow),
    ],
)
def test_break_with_worker_processes_leaves_no_trace(
    name: str, phase: str, step: int, whole: Callable[[str], Result], tmp_path: Path
) -> None:
    """Random augmentation in worker processes goes on as if nothing had happened."""
    break_off(SCENARIOS[name], tmp_path, phase, step)
    assert_same_run(finish(SCENARIOS[name], tmp_path, resume=True), whole(name))


def test_several_breaks_leave_no_trace(whole: Callable[[str], Result], tmp_path: Path) -> None:
    """A run that is broken off again and again."""
    break_off(BASE, tmp_path, "on_step_end", 4)
    for event, step in (("on_log", 6), ("on_evaluate", 8), ("on_substep_end", 13)):
        break_off(BASE, tmp_path, event, step, resume=True)
    assert_same_run(finish(BASE, tmp_path, resume=True), whole("base"))


@pytest.mark.parametrize("name", ["base", "save-steps-eval-epochs", "early-stopping", "stream"])
def test_resume_from_every_checkpoint_of_a_finished_run(
    name: str, whole: Callable[[str], Result], tmp_path: Path
) -> None:
    """Each checkpoint, also the last one, leads to the same end."""
    reference = whole(name)
    finish(SCENARIOS[name], tmp_path)
    for checkpoint in reversed(visible_checkpoints(tmp_path)):
        assert_same_run(finish(SCENARIOS[name], tmp_path, resume=str(tmp_path / checkpoint)), reference)


def test_worker_processes_do_not_change_the_run(tmp_path: Path) -> None:
    """Without random data, the number of workers changes nothing."""
    quiet = replace(BASE, rows=lambda: helpers.feature_rows(40), collator=default_collate).having(
        eval_strategy="no"
    )
    runs = [finish(quiet.having(dataloader_num_workers=count), tmp_path / str(count)) for count in (0, 2)]
    assert_same_run(runs[1], runs[0])


def test_evaluating_and_saving_do_not_change_the_run(tmp_path: Path) -> None:
    """The random stream of the training does not know of evaluations, checkpoints and log rows."""
    busy = finish(BASE, tmp_path / "busy")
    calm = finish(BASE.having(eval_strategy="no", save_strategy="no", logging_steps=5), tmp_path / "calm")
    helpers.assert_identical(busy.weights, calm.weights)
    # The rows are sums over other groups of steps.
    assert busy.output.training_loss == pytest.approx(calm.output.training_loss, rel=1e-6)


@pytest.mark.parametrize("step", [4, 7, 10, 14])
def test_skipped_samples_are_not_read_again(step: int, tmp_path: Path) -> None:
    """Resuming in the middle of an epoch reads the samples that are left, and no other."""
    made: list[CountingRows] = []

    def rows() -> CountingRows:
        made.append(CountingRows(helpers.feature_rows(40).rows))
        return made[-1]

    counted = replace(BASE, rows=rows)
    finish(counted, tmp_path / "whole")
    break_off(counted, tmp_path / "broken", "on_step_end", step)
    finish(counted, tmp_path / "broken", resume=True)
    all_read, _, read_again = (data.read for data in made)
    begun = step // 3 * 3  # the last checkpoint, if the break comes before that of its own step
    begun = begun - 3 if step % 3 == 0 else begun
    assert len(all_read) == 3 * 40
    assert read_again == all_read[begun * 8 :]


def test_fresh_start_replaces_the_log_file(whole: Callable[[str], Result], tmp_path: Path) -> None:
    """The same command without a checkpoint to go on from begins a new log."""
    break_off(BASE, tmp_path, "on_step_end", 2)
    assert visible_checkpoints(tmp_path) == []
    assert_same_run(finish(BASE, tmp_path), whole("base"))


def test_resuming_without_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    """As in the reference, ``True`` asks for a checkpoint that is there."""
    with pytest.raises(ValueError, match="checkpoint"):
        finish(BASE, tmp_path, resume=True)


def test_restored_early_stopping_goes_on_counting(whole: Callable[[str], Result]) -> None:
    """The scenario is meant to stop early, or it would show nothing."""
    reference: Any = whole("early-stopping")
    assert reference.output.global_step < 40
