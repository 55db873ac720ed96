"""Is one process its own world, and does each run get the strategy that it needs?"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
import torch
from torch import nn

from etude.core.world import World
from etude.strategies.base import Strategy
from etude.strategies.ddp import DDPSettings, DDPStrategy
from etude.strategies.select import select_strategy

CPU = torch.device("cpu")


def single() -> Strategy:
    return select_strategy(World(), CPU, DDPSettings())


def test_one_process_needs_nobody() -> None:
    strategy, tensor, model = single(), torch.tensor([1.0, 2.0]), nn.Linear(1, 1)
    strategy.setup()
    strategy.barrier()
    assert strategy.wrap(model) is model
    assert strategy.sum(tensor) is tensor
    assert strategy.max(tensor) is tensor
    assert tensor.tolist() == [1.0, 2.0]
    assert strategy.gather_objects("mine") == ["mine"]
    assert strategy.from_main({"a": 1}) == {"a": 1}
    assert strategy.agree([True, False]) == [True, False]
    assert isinstance(strategy.synchronize(model, last=False), nullcontext)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("size", "kind"), [(1, Strategy), (2, DDPStrategy), (8, DDPStrategy)])
def test_the_number_of_processes_chooses(size: int, kind: type) -> None:
    strategy = select_strategy(World(0, 0, size), CPU, DDPSettings())
    assert type(strategy) is kind
    assert (strategy.world.size, strategy.device) == (size, CPU)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"find_unused_parameters": True}),
        ({"find_unused_parameters": False}, {"find_unused_parameters": False}),
        (
            {"bucket_cap_mb": 5, "timeout": timedelta(seconds=1)},
            {"find_unused_parameters": True, "bucket_cap_mb": 5},
        ),
        (
            {"broadcast_buffers": False, "static_graph": True, "backend": "gloo"},
            {"find_unused_parameters": True, "broadcast_buffers": False, "static_graph": True},
        ),
    ],
)
def test_only_what_is_set_is_passed_to_pytorch(settings: dict[str, Any], options: dict[str, Any]) -> None:
    assert DDPSettings(**settings).module_options() == options


def test_a_model_without_trained_parameters_is_not_wrapped() -> None:
    model = nn.Linear(1, 1).requires_grad_(False)
    assert select_strategy(World(0, 0, 2), CPU, DDPSettings()).wrap(model) is model


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        ({}, World(0, 0, 1)),
        ({"WORLD_SIZE": "1"}, World(0, 0, 1)),
        ({"LOCAL_RANK": "3"}, World(0, 0, 1)),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, World(3, 1, 4)),
        ({"WORLD_SIZE": "4", "RANK": "3"}, World(3, 3, 4)),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, World(0, 0, 1)),
    ],
)
def test_the_launcher_says_which_process_this_is(
    environment: dict[str, str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert World.from_environment() == world
    assert world.is_main is (world.rank == 0)
    assert world.is_local_main is (world.local_rank == 0)
