"""Two machines with disks of their own: does each get whole checkpoints, and can the run go on from them?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import etude
from tests import helpers
from tests.distributed.launch import run_ranks
from tests.parity.runner import DICT, build_trainer

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(200)]
SAVING = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "save_on_each_node": True}


def on_two_machines(folder: Path) -> None:
    """Each rank is the only one of its machine, and has a folder of its own."""
    rank = os.environ["RANK"]
    os.environ["LOCAL_RANK"] = "0"
    disk = folder / f"disk-{rank}"
    trainer = build_trainer(etude, DICT.having(**SAVING, max_steps=4, log_on_each_node=False), disk)
    assert trainer.args.should_save
    assert trainer.args.should_log == (rank == "0")
    trainer.train()
    trainer.save_model(str(disk / "model"))
    trainer.save_state()
    other = build_trainer(etude, DICT.having(**SAVING, max_steps=6), disk)
    assert other.train(resume_from_checkpoint=True).global_step == 6
    torch.save(helpers.weights_of(other.model), folder / f"weights-{rank}.pt")


def test_each_machine_has_whole_checkpoints(tmp_path: Path) -> None:
    run_ranks(on_two_machines, tmp_path, world=2)
    whole = {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "etude_state.json"}
    for rank in range(2):
        disk = tmp_path / f"disk-{rank}"
        found = {path.name for path in (disk / "checkpoint-6").iterdir()}
        assert found >= {*whole, "training_args.json", "rng_state_0.pth", "rng_state_1.pth"}
        assert (disk / "model" / "model.safetensors").is_file()
        assert (disk / "trainer_state.json").is_file()
        assert not (disk / "checkpoint-2").exists()  # each removes its own
        assert not list(disk.glob(".staging-*"))
    helpers.assert_identical(*(torch.load(tmp_path / f"weights-{rank}.pt") for rank in range(2)))
