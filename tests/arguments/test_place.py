"""Do arguments know where the run is, and let the main process go first?"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from etude import TrainingArguments
from tests.distributed import workloads_of_arguments
from tests.distributed.launch import run_ranks


def test_the_number_of_devices_can_be_set() -> None:
    args = TrainingArguments("x", use_cpu=True, per_device_train_batch_size=3)
    assert (args.n_gpu, args._n_gpu, args.train_batch_size) == (0, 0, 3)
    args._n_gpu = 1
    assert args.n_gpu == 1
    assert pickle.loads(pickle.dumps(args)).n_gpu == 1


def test_names_that_code_for_the_reference_reads_are_there() -> None:
    args = TrainingArguments("x", use_cpu=True)
    assert args._setup_devices == args.device == torch.device("cpu")
    assert args._no_sync_in_gradient_accumulation
    assert args.place_model_on_device is None
    assert (args.deepspeed_plugin, args.hf_deepspeed_config, args.fsdp_plugin_args) == (None, None, None)


def test_one_process_goes_first_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "barrier", lambda *_: pytest.fail("waits for nobody"))
    done = []
    with TrainingArguments("x", use_cpu=True).main_process_first(desc="counting"):
        done.append(1)
    assert done == [1]
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
@pytest.mark.distributed
def test_the_main_process_goes_first(tmp_path: Path) -> None:
    """Before a Trainer is there, with an error inside, and with a Trainer afterwards."""
    run_ranks(workloads_of_arguments.run_main_process_first, tmp_path, world=2)
    order: list[Any] = (tmp_path / "order").read_text().split()
    assert order == ["main", "other"]
    assert [(tmp_path / f"error-{rank}").read_text() for rank in range(2)] == ["no data", "no data"]
    assert [(tmp_path / f"steps-{rank}").read_text() for rank in range(2)] == ["1", "1"]
