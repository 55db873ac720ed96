"""Is what a checkpoint holds put back where it was?"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import etude
from etude import TrainerState
from etude.checkpoint import contents, resume
from etude.checkpoint.draft import Draft
from etude.errors import CheckpointError


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


@pytest.mark.parametrize("on_device", [False, True])
def test_the_optimizer_does_not_hang_on_its_files(
    on_device: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint may be removed, or written anew, while the run goes on from it."""
    monkeypatch.setattr(resume, "_is_on_a_device", lambda optimizer: on_device)

    def stepped() -> tuple[Any, Any]:
        weight = torch.nn.Parameter(torch.ones(5000))
        optimizer = torch.optim.AdamW([weight])
        weight.sum().backward()
        optimizer.step()
        return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)

    optimizer, schedule = stepped()
    expected = optimizer.state_dict()["state"][0]["exp_avg"].clone()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    torch.save(schedule.state_dict(), tmp_path / "scheduler.pt")
    again, schedule = stepped()
    resume.load_optimizer(str(tmp_path), again, schedule)
    path = tmp_path / "optimizer.pt"
    path.write_bytes(bytes(path.stat().st_size))  # in place: a mapping would see it
    state = again.state_dict()["state"][0]
    assert torch.equal(state["exp_avg"], expected)
    assert state["step"] == 1
