"""Several processes whose folder is at a URL: is it one run, and does it go on when the machines are lost?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import etude
from etude.checkpoint.storage import Storage
from tests import helpers
from tests.contracts.resuming import BASE, build, make_breaker
from tests.distributed.launch import run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(200)]
SCENARIO = BASE.having(save_total_limit=2, gradient_accumulation_steps=1)


def train(folder: Path, url: str, resume: Any, extra: Any = (), **options: Any) -> dict[str, torch.Tensor]:
    trainer = build(SCENARIO.having(**options), url, etude, extra)
    trainer.train(resume_from_checkpoint=resume)
    return helpers.weights_of(trainer.model)


def run_and_lose_the_machines(folder: Path, each_node: bool) -> None:
    rank = os.environ["RANK"]
    options = {"save_on_each_node": each_node}
    if each_node:
        os.environ["LOCAL_RANK"] = "0"
    disk = folder / (f"disk-{rank}" if each_node else "disk")
    os.environ["ETUDE_LOCAL_DIR"] = str(disk)
    whole = train(folder, f"file://{folder}/bucket/whole", "auto", **options)
    url = f"file://{folder}/bucket/run"
    with pytest.raises(Exception, match="on_step_end of step 8"):
        train(folder, url, "auto", [make_breaker(etude, "on_step_end", 8)], **options)
    torch.distributed.barrier()
    if each_node or rank == "0":
        shutil.rmtree(disk)
    torch.distributed.barrier()
    resumed = train(folder, url, "auto", **options)
    torch.save([whole, resumed], folder / f"weights-{rank}.pt")


def on_one_machine(folder: Path) -> None:
    run_and_lose_the_machines(folder, each_node=False)


def on_two_machines(folder: Path) -> None:
    run_and_lose_the_machines(folder, each_node=True)


@pytest.mark.parametrize("workload", [on_one_machine, on_two_machines])
def test_a_run_goes_on_from_its_url(workload: Any, tmp_path: Path) -> None:
    """Bit for bit, with the random state of every process."""
    run_ranks(workload, tmp_path, world=2)
    for rank in range(2):
        whole, resumed = torch.load(tmp_path / f"weights-{rank}.pt")
        helpers.assert_identical(resumed, whole)
    storage = Storage(f"file://{tmp_path}/bucket/run")
    assert storage.steps() == Storage(f"file://{tmp_path}/bucket/whole").steps() == [12, 15]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= storage.names("checkpoint-15").keys()
