"""Is a run's place in its data, its losses and its random state found again, also by another number of processes?"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude import TrainerState
from etude.checkpoint import position
from etude.checkpoint.position import Layout
from etude.core.progress import Progress
from etude.core.rng import random_state
from etude.core.state import Plan
from etude.core.world import World
from etude.errors import CheckpointError
from tests.properties import quick

PLAN = Plan(3, 4, 8, 8, 12, 32, 96.0, 8)
TWO = Layout(2, 2, 2)


def progress_at(micro_steps: int, pending: float | None = None) -> dict[str, Any]:
    progress = Progress(torch.device("cpu"))
    progress.micro_steps = micro_steps
    if pending is not None:
        progress.add_loss(torch.tensor(pending))
    return progress.state_dict()


def found_in(
    folder: Path, layout: Layout, rank: int = 0, plan: Plan = PLAN, state: TrainerState | None = None
) -> position.SavedPosition:
    return position.load(str(folder), state or TrainerState(), plan, layout, rank, seed=7)


def write(
    folder: Path, micro_steps: int = 4, pending: tuple[float | None, ...] = (None, None), asked_steps: int = 2
) -> None:
    """A checkpoint of two processes."""
    position.save(folder, [progress_at(micro_steps, loss) for loss in pending], TWO, asked_steps)
    for rank in range(2):
        torch.manual_seed(rank)
        position.save_random_state(folder, random_state(), rank, 2)


def test_each_process_gets_its_own_position_and_random_state(tmp_path: Path) -> None:
    write(tmp_path, 4, (1.0, 2.0))
    for rank in range(2):
        found = found_in(tmp_path, TWO, rank)
        torch.manual_seed(rank)
        assert found.progress == progress_at(4, 1.0 + rank)
        for state in (found.at_checkpoint, found.at_epoch_start):
            assert state is not None
            assert torch.equal(state["cpu"], torch.random.get_rng_state())


@pytest.mark.parametrize("world", [1, 4])
def test_other_processes_hold_the_losses_together(world: int, tmp_path: Path) -> None:
    """Each holds a part so that the mean counts, as before."""
    write(tmp_path, 4, (1.0, 2.0))
    parts = [found_in(tmp_path, Layout(2, 4 // world, world), rank).progress for rank in range(world)]
    assert sum(part["pending_loss"] for part in parts) / world == 1.5
    write(tmp_path)
    assert found_in(tmp_path, Layout(2, 4 // world, world)).progress["pending_loss"] is None


@pytest.mark.parametrize("world", [1, 4])
def test_random_states_of_other_processes_are_drawn_anew_and_alike_each_time(
    world: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    before = random_state()
    with caplog.at_level(logging.WARNING):
        found = [found_in(tmp_path, Layout(2, 4 // world, world), rank) for rank in range(world)]
    assert str(random_state()) == str(before)
    states = [part.at_checkpoint for part in found]
    assert len({str(state["cpu"].tolist()) for state in states if state is not None}) == world
    began = {str(part.at_epoch_start["cpu"].tolist()) for part in found if part.at_epoch_start is not None}
    torch.manual_seed(0)
    assert began == {str(torch.random.get_rng_state().tolist())}  # samplers draw the same everywhere
    again = position.load_random_state(str(tmp_path), World(0, 0, world), 7, 0)
    assert states[0] is not None
    assert torch.equal(again["cpu"], states[0]["cpu"])
    assert caplog.text.count("written by 2 processes") == 1


@quick
@given(
    st.integers(1, 200), st.integers(1, 8), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.data()
)
def test_the_place_is_kept_in_samples(
    size: int, cut: int, batch: int, steps: int, world: int, data: st.DataObject
) -> None:
    """However the global batch is cut, the same updates of the epoch are done."""
    before = Layout(batch * cut, steps, world)
    now = Layout(batch, steps * cut, world)
    micro_steps = -(-size // (now.batch_size * now.world_size))
    plan = Plan(1, -(-micro_steps // now.accumulation_steps), micro_steps, 1, 1, size, size, now.global_batch)
    updates = data.draw(st.integers(0, plan.updates_per_epoch))
    done = min(updates * steps, -(-size // (before.batch_size * world)))
    moved = position._moved(done, before, now, plan)
    assert moved == min(updates * now.accumulation_steps, micro_steps)
    assert position._moved(done, before, before, plan) == done


def test_a_batch_size_that_was_changed_on_purpose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 3)  # 12 samples
    assert found_in(tmp_path, Layout(1, 2, 2)).progress["micro_steps"] == 6
    assert found_in(tmp_path, Layout(4, 2, 2)).progress["micro_steps"] == 1
    assert "4 samples that are done will be trained on again" in caplog.text


@pytest.mark.parametrize(
    ("asked", "steps"),
    [(Layout(2, 4, 1), 4), (Layout(2, 1, 1), 4), (Layout(1, 1, 4), 2), (Layout(3, 1, 2), 1)],
)
def test_accumulation_keeps_the_global_batch(
    asked: Layout, steps: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless the number of processes is the same: then the arguments are followed."""
    write(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert position.kept_accumulation(str(tmp_path), asked) == steps
    said = f"gradient_accumulation_steps={steps} instead of the {asked.accumulation_steps}"
    assert (said in caplog.text) is (steps != asked.accumulation_steps)


def test_accumulation_that_was_chosen_once_stays(tmp_path: Path) -> None:
    """The same command again, on as many processes, does not go back to what it says."""
    write(tmp_path, asked_steps=16)
    assert position.kept_accumulation(str(tmp_path), Layout(2, 16, 2)) == 2
    assert position.kept_accumulation(str(tmp_path), Layout(2, 8, 2)) == 8  # changed on purpose


@pytest.mark.parametrize(
    ("asked", "way_out"),
    [
        (Layout(2, 1, 3), "start as many processes as divide it (1, 2, 4, 8)"),
        (Layout(3, 1, 4), "set per_device_train_batch_size to one of 1, 2"),
    ],
)
def test_a_global_batch_that_cannot_be_kept_is_an_error(asked: Layout, way_out: str, tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        position.kept_accumulation(str(tmp_path), asked)
    assert "8 samples (2 processes x 2 accumulated x 2)" in str(caught.value)
    assert way_out in str(caught.value)


def test_the_position_of_the_references_checkpoints_follows_from_the_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = [{"loss": 2.0, "step": 2}, {"eval_loss": 9.0, "step": 2}, {"loss": 1.0, "step": 6}]
    alone = Layout(4, 2, 1)
    with caplog.at_level(logging.WARNING):
        found = found_in(tmp_path, alone, state=TrainerState(global_step=6, log_history=history))
    assert (found.progress["epoch"], found.progress["micro_steps"]) == (1, 4)
    assert found.progress["logged_loss"] == 2 * 2.0 + 4 * 1.0
    assert found.at_checkpoint is None
    assert "no random state" in caplog.text
    assert position.kept_accumulation(str(tmp_path), alone) == 2
    Progress(torch.device("cpu")).load_state_dict(found.progress)


def test_what_the_data_tells_comes_back(tmp_path: Path) -> None:
    told = {"marks": [{"state": {"shard": 3, "rng": (1, 2**100), "kept": torch.arange(3)}}], "turn": 0}
    write(tmp_path)
    for rank in range(2):
        position.save_data(tmp_path, {**told, "turn": rank}, rank, 2)
    for rank in range(2):
        assert str(found_in(tmp_path, TWO, rank).data) == str({**told, "turn": rank})
    assert str(found_in(tmp_path, Layout(2, 4, 1)).data) == str(told)
    position.save_data(tmp_path, None, 0, 1)
    assert not (tmp_path / "data_state.pt").exists()


def test_a_state_that_could_not_be_read_back_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            position.save_data(tmp_path, {"state": Path("a")}, 0, 1)
    assert os.listdir(tmp_path) == []
    assert caplog.text.count("has to read past what is done") == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"progress": []})])
def test_a_position_that_cannot_be_read_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "etude_state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"etude_state.json cannot be used"):
        found_in(tmp_path, TWO)
