"""Is what an evaluation keeps of its batches put together in the right order, with the right names?"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.errors import MetricError
from etude.loops.evaluate import Batch, Collected, find_metric, interleave, with_prefix
from tests import helpers
from tests.properties import quick


@quick
@given(st.integers(0, 20), st.integers(1, 5))
def test_batches_of_all_processes_come_in_their_order(total: int, world: int) -> None:
    batches = list(range(total))
    assert interleave([batches[rank::world] for rank in range(world)]) == batches


def batch(size: int, loss: float | None = None, **kept: Any) -> Batch:
    return Batch(size, loss, **{"predictions": None, "labels": None, "inputs": None, **kept})


def test_losses_count_for_each_sample() -> None:
    losses = Collected([batch(2, 1.0), batch(1, 4.0)]).losses()
    assert losses is not None
    assert losses.tolist() == [1.0, 1.0, 4.0]
    assert losses.mean() == 2.0


@pytest.mark.parametrize("batches", [[], [batch(2, 1.0), batch(1, None)]])
def test_there_is_no_loss_where_a_batch_has_none(batches: list[Batch]) -> None:
    assert Collected(batches).losses() is None


def test_what_is_kept_is_joined_or_listed() -> None:
    kept = Collected([batch(2, predictions=np.ones((2, 3))), batch(1, predictions=np.ones((1, 4)))])
    assert kept.joined("predictions", join=True).shape == (3, 4)
    assert [part.shape for part in kept.joined("predictions", join=False)] == [(2, 3), (1, 4)]
    assert kept.joined("labels", join=True) is None
    assert Collected([]).joined("labels", join=True) is None


def test_metrics_become_plain_numbers_with_their_prefix() -> None:
    metrics = {"a": np.float32(0.5), "eval_b": torch.tensor([2.0]), "c": np.array(3), "d": 4, "e": np.ones(2)}
    found = with_prefix(metrics, "eval")
    assert list(found) == ["eval_a", "eval_b", "eval_c", "eval_d", "eval_e"]
    assert [type(value) for value in found.values()] == [float, float, int, int, np.ndarray]


@pytest.mark.parametrize("name", ["loss", "eval_loss"])
def test_a_metric_is_found_with_and_without_its_prefix(name: str) -> None:
    assert find_metric({"eval_loss": 2.0}, name) == 2.0


def test_a_metric_that_is_not_there_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(MetricError, match="'f1'` is not among.*eval_accuracy, eval_loss") as caught:
        find_metric({"eval_loss": 1.0, "eval_accuracy": 1.0}, "f1")
    assert isinstance(caught.value, KeyError)


class Keeping:
    """A metric function that keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def __call__(self, prediction: Any) -> dict[str, float]:
        self.given.append(prediction)
        return {"count": float(len(prediction.label_ids))}


@pytest.mark.parametrize("join", [True, False])
def test_metrics_are_given_what_the_reference_gives(join: bool, tmp_path: Any) -> None:
    found = []
    for name in ("transformers", "etude"):
        metrics, model = Keeping(), helpers.DictClassifier()
        model.main_input_name = "features"
        with helpers.library(name) as lib:
            lib.set_seed(1)
            model.load_state_dict(helpers.DictClassifier().state_dict())
            args = helpers.training_arguments(
                lib, tmp_path, include_for_metrics=["inputs", "loss"], eval_do_concat_batches=join,
                per_device_eval_batch_size=3,
            )  # fmt: skip
            lib.Trainer(model, args, compute_metrics=metrics).evaluate(helpers.feature_rows(8))
        found.append(metrics.given[0])
    for ours, theirs in zip_longest(found[1], found[0]):
        assert type(ours) is type(theirs)
        for mine, other in zip_longest([ours] if join else ours, [theirs] if join else theirs):
            np.testing.assert_allclose(mine, other, rtol=1e-6)
