"""Is the batch size that ``auto_find_batch_size`` arrives at, and the training with it, the reference's?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import helpers
from tests.parity.runner import DICT, LIBRARIES, assert_same_outcome, run, run_both

SEARCHING = {"auto_find_batch_size": True, "per_device_train_batch_size": 12, "per_device_eval_batch_size": 8}


class Hungry(helpers.DictClassifier):
    """Runs out of memory with more than ten samples, from its third forward on or from the first."""

    def __init__(self, patience: int = 0) -> None:
        super().__init__()
        self.patience = patience
        self.calls = 0

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """As its parent, where memory suffices."""
        self.calls += 1
        if len(features) > 10 and self.calls > self.patience:
            raise torch.OutOfMemoryError("CUDA out of memory. No room.")
        return super().forward(features, labels)


@pytest.mark.parametrize(
    "option",
    [
        {},
        pytest.param({"gradient_accumulation_steps": 2}, marks=pytest.mark.slow),
        pytest.param({"max_steps": 5, "save_strategy": "epoch"}, marks=pytest.mark.slow),
        pytest.param({"per_device_train_batch_size": 20}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_found_batch_size_equals_the_reference(option: dict[str, object], tmp_path: Path) -> None:
    """Where memory is short at once, the batch size, the number of updates and every number are the same."""
    case = replace(DICT, model=Hungry, train_rows=lambda: helpers.feature_rows(60, seed=1))
    theirs, ours = run_both(case.having(**{**SEARCHING, "eval_strategy": "epoch", **option}), tmp_path)
    assert theirs.trainer._train_batch_size == ours.trainer._train_batch_size == 10
    assert ours.trainer.state.train_batch_size == 10
    assert_same_outcome(ours, theirs)


@pytest.mark.slow
def test_only_our_search_begins_anew(tmp_path: Path) -> None:
    """Memory that runs out after two updates: both go on with smaller batches, étude as if with them from the start."""
    case = replace(
        DICT, model=lambda: Hungry(patience=2), train_rows=lambda: helpers.feature_rows(60, seed=1)
    )
    found = {name: run(name, case.having(**SEARCHING), tmp_path) for name in LIBRARIES}
    direct = run("etude", case.having(per_device_train_batch_size=10), tmp_path / "direct")
    assert {name: outcome.output.global_step for name, outcome in found.items()} == {
        "transformers": 12,
        "etude": 12,
    }
    helpers.assert_identical(found["etude"].weights, direct.weights)
    assert helpers.relative_difference(found["transformers"].weights, direct.weights) > 1e-3
