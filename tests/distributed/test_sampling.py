"""Samplers that go by length on two ranks: are the updates those of one process, and survive an interruption?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import helpers
from tests.distributed import sampling
from tests.distributed.launch import run_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each rank reports."""
    path = tmp_path_factory.mktemp("sampling")
    run_ranks(sampling.run_sampling_suite, path, world=2)
    return [torch.load(path / f"sampling-{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("strategy", sampling.STRATEGIES)
@pytest.mark.parametrize("windows", [1, 2])
def test_training_equals_that_of_one_process(
    strategy: str, windows: int, ranks: list[dict[Any, Any]], tmp_path: Path
) -> None:
    """Nothing is read twice, and the weights agree to rounding, whatever the micro-batches hold."""
    alone = sampling.sequences(tmp_path, strategy, 1, 1)
    both = [rank[strategy, windows] for rank in ranks]
    helpers.assert_identical(both[1]["weights"], both[0]["weights"])
    assert helpers.relative_difference(both[0]["weights"], alone["weights"]) <= 1e-6
    assert sorted(both[0]["read"] + both[1]["read"]) == sorted(alone["read"]) == list(range(sampling.SIZE))
    assert (len(set(both[0]["sizes"][:-1])) > 1) is (strategy != "group_by_length")


@pytest.mark.parametrize("strategy", sampling.STRATEGIES)
def test_resumed_run_equals_the_uninterrupted_run(strategy: str, ranks: list[dict[Any, Any]]) -> None:
    """Bit for bit, on each rank, with noise in data and model."""
    for rank in ranks:
        helpers.assert_identical(rank[strategy, "resumed"]["weights"], rank[strategy, "whole"]["weights"])
        assert rank[strategy, "resumed"]["rows"] == rank[strategy, "whole"]["rows"]
