"""Are metrics and predictions of several ranks those of one?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.contracts import rank_workloads
from tests.distributed.launch import run_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What one process reports."""
    return rank_workloads.evaluate_sizes(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each of two and of three ranks reports."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    run_ranks(rank_workloads.save_evaluations, folder, world=request.param)
    return [torch.load(folder / f"metrics-{rank}.pt", weights_only=False) for rank in range(request.param)]


@pytest.mark.parametrize("key", rank_workloads.EVALUATIONS, ids=str)
def test_metrics_of_ranks_equal_those_of_one(
    key: Any, alone: dict[Any, Any], ranks: list[dict[Any, Any]]
) -> None:
    """Every rank reports every metric as one process does, also for sizes that do not divide."""
    for rank in ranks:
        assert rank[key]["metrics"] == pytest.approx(alone[key]["metrics"], rel=1e-6)


@pytest.mark.parametrize("key", rank_workloads.EVALUATIONS, ids=str)
def test_predictions_of_ranks_equal_those_of_one(
    key: Any, alone: dict[Any, Any], ranks: list[dict[Any, Any]]
) -> None:
    """Predictions and labels come back in the order of the data set, none repeated, none missing."""
    for rank in ranks:
        np.testing.assert_allclose(rank[key]["predictions"], alone[key]["predictions"], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(rank[key]["label_ids"], alone[key]["label_ids"])
