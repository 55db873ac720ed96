"""Is what a checkpoint holds put back where it was?"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import etude
from etude import TrainerState
from etude.checkpoint import contents, resume
from etude.checkpoint.draft import Draft
from etude.core.progress import Progress
from etude.core.rng import random_state
from etude.core.state import Plan
from etude.errors import CheckpointError

PLAN = Plan(3, 4, 8, 8, 12, 32, 96.0, 8)


def parts() -> tuple[Any, Any]:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)


def test_optimizer_and_schedule_come_back(tmp_path: Path) -> None:
    optimizer, schedule = parts()
    optimizer.param_groups[0]["params"][0].grad = torch.tensor([1.0, 2.0])
    optimizer.step()
    schedule.step()
    contents.save_optimizer(Draft(tmp_path, None), optimizer, 0, 1)
    contents.save_schedule(tmp_path, schedule)
    assert not (tmp_path / "scaler.pt").exists()
    other, other_schedule = parts()
    resume.load_optimizer(str(tmp_path), other, other_schedule)
    assert str(other.state_dict()) == str(optimizer.state_dict())
    assert other_schedule.state_dict() == schedule.state_dict()


@pytest.mark.parametrize("gone", ["optimizer.pt", "scheduler.pt"])
def test_a_part_that_is_missing_is_an_error(gone: str, tmp_path: Path) -> None:
    optimizer, schedule = parts()
    contents.save_optimizer(Draft(tmp_path, None), optimizer, 0, 1)
    contents.save_schedule(tmp_path, schedule)
    (tmp_path / gone).unlink()
    with pytest.raises(CheckpointError, match=f"has no {gone}.*resume_with_fresh_optimizer"):
        resume.load_optimizer(str(tmp_path), *parts())


def test_the_state_of_another_optimizer_is_an_error(tmp_path: Path) -> None:
    optimizer, schedule = parts()
    contents.save_optimizer(Draft(tmp_path, None), optimizer, 0, 1)
    contents.save_schedule(tmp_path, schedule)
    other = torch.optim.SGD([torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(CheckpointError, match="optimizer.pt does not fit SGD.*resume_with_fresh_optimizer"):
        resume.load_optimizer(str(tmp_path), other, schedule)


@pytest.mark.parametrize("name", ["linear", "cosine", "constant_with_warmup", "reduce_lr_on_plateau"])
def test_a_new_schedule_begins_where_the_run_stands(name: str) -> None:
    made = []
    for _ in range(2):
        optimizer, _ = parts()
        options: dict[str, Any] = {"num_warmup_steps": 2, "num_training_steps": 10}
        made.append((optimizer, etude.get_scheduler(name, optimizer, **options)))
    (moved, moved_schedule), (fresh, fresh_schedule) = made
    if name != "reduce_lr_on_plateau":
        for _ in range(5):
            moved.step()
            moved_schedule.step()
    resume.begin_afresh(fresh_schedule, 5)
    assert fresh_schedule.state_dict() == moved_schedule.state_dict()
    assert fresh.param_groups[0]["lr"] == moved.param_groups[0]["lr"]


def position_of(folder: Path, state: TrainerState, rank: int = 0, size: int = 1) -> resume.SavedPosition:
    return resume.load_position(str(folder), state, PLAN, 2, rank, size)


def test_each_process_gets_its_own_position_and_random_state(tmp_path: Path) -> None:
    positions = []
    for rank in range(2):
        progress = Progress(torch.device("cpu"))
        progress.micro_steps = 10 + rank
        torch.manual_seed(rank)
        contents.save_random_state(tmp_path, random_state(), rank, 2)
        positions.append(progress.state_dict())
    contents.save_position(tmp_path, positions)
    for rank in range(2):
        found = position_of(tmp_path, TrainerState(), rank, 2)
        torch.manual_seed(rank)
        assert found.progress == positions[rank]
        for state in (found.at_checkpoint, found.at_epoch_start):
            assert state is not None
            assert torch.equal(state["cpu"], torch.random.get_rng_state())


def test_another_number_of_processes_is_an_error(tmp_path: Path) -> None:
    contents.save_position(tmp_path, [{}, {}])
    with pytest.raises(CheckpointError, match="written by 2 processes, this run has 1.*with 2"):
        position_of(tmp_path, TrainerState())


def test_the_position_of_the_references_checkpoints_follows_from_the_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = [{"loss": 2.0, "step": 2}, {"eval_loss": 9.0, "step": 2}, {"loss": 1.0, "step": 6}]
    with caplog.at_level(logging.WARNING):
        found = position_of(tmp_path, TrainerState(global_step=6, log_history=history))
    assert (found.progress["epoch"], found.progress["micro_steps"]) == (1, 4)
    assert found.progress["logged_loss"] == 2 * 2.0 + 4 * 1.0
    assert found.at_checkpoint is None
    assert "no random state" in caplog.text
    Progress(torch.device("cpu")).load_state_dict(found.progress)


class Counting(SimpleNamespace):
    """A callback with a state."""

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"count": self.count}}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Counting:
        return cls(**state["attributes"])


def test_callbacks_come_back_in_their_places() -> None:
    other = object()
    saved = contents.exported_states([Counting(count=3), other, Counting(count=5)])
    assert saved == {"Counting": [Counting(count=n).state() for n in (3, 5)]}
    state = TrainerState(
        stateful_callbacks=json.loads(json.dumps({**saved, "TrainerControl": {}, "Gone": {}}))
    )
    restored, unknown = contents.restored_callbacks([other, Counting(count=0), Counting(count=0)], state)
    assert restored == [other, Counting(count=3), Counting(count=5)]
    assert unknown == ["Gone"]


def test_a_single_callback_is_not_a_list() -> None:
    saved = contents.exported_states([Counting(count=3)])
    assert saved == {"Counting": Counting(count=3).state()}
    one, two = contents.restored_callbacks([Counting(count=0)] * 2, TrainerState(stateful_callbacks=saved))[0]
    assert (one.count, two.count) == (3, 0)
