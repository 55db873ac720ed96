"""Does training stop at the evaluation at which the reference stops it?"""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import etude
from tests import helpers
from tests.properties import quick

metrics = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1, 1), st.just(math.nan)), max_size=12)
DUE = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}


def history(lib: Any, values: list[float], greater: bool, **options: Any) -> list[tuple[int, bool]]:
    """The count and the verdict after each evaluation, while the best metric is kept as a run keeps it."""
    args = helpers.training_arguments(
        lib, "x", greater_is_better=greater, metric_for_best_model="score", **DUE
    )
    state, control = lib.TrainerState(), lib.TrainerControl()
    callback = lib.EarlyStoppingCallback(**options)
    found = []
    for value in values:
        callback.on_evaluate(args, state, control, metrics={"eval_score": value})
        found.append((callback.early_stopping_patience_counter, control.should_training_stop))
        best = state.best_metric
        if best is None or (value > best if greater else value < best):
            state.best_metric = value
    return found


@quick
@given(metrics, st.booleans(), st.integers(1, 4), st.sampled_from([None, 0.0, 0.25, 1.0]))
def test_the_verdict_is_the_references(
    values: list[float], greater: bool, patience: int, threshold: float | None
) -> None:
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            options = {"early_stopping_patience": patience, "early_stopping_threshold": threshold}
            if name == "transformers" and threshold is None:
                options["early_stopping_threshold"] = 0.0
            found.append(history(lib, values, greater, **options))
    assert found[0] == found[1]


def test_a_threshold_below_zero_forgives_nothing_as_in_the_reference() -> None:
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            found.append(history(lib, [0.0, 0.1, 0.0], False, early_stopping_threshold=-0.5))
    assert found[0] == found[1]


@pytest.mark.parametrize("fields", [{}, {**DUE, "eval_strategy": "no", "load_best_model_at_end": False}])
def test_what_it_needs_is_asserted_as_in_the_reference(fields: dict[str, Any]) -> None:
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            args = helpers.training_arguments(lib, "x", **fields)
            if fields:
                args.metric_for_best_model = "loss"
            with pytest.raises(AssertionError):
                lib.EarlyStoppingCallback().on_train_begin(args, lib.TrainerState(), lib.TrainerControl())


def test_stopping_without_the_best_model_is_said(caplog: pytest.LogCaptureFixture) -> None:
    args = helpers.training_arguments(etude, "x", eval_strategy="epoch", metric_for_best_model="loss")
    with caplog.at_level(logging.WARNING):
        etude.EarlyStoppingCallback().on_train_begin(args, etude.TrainerState(), etude.TrainerControl())
    assert "the model will be the last one, not the best" in caplog.text


def test_a_missing_metric_is_said_and_counts_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    args = helpers.training_arguments(etude, "x", metric_for_best_model="eval_f1", eval_strategy="epoch")
    callback, control = etude.EarlyStoppingCallback(), etude.TrainerControl()
    with caplog.at_level(logging.WARNING):
        callback.on_evaluate(args, etude.TrainerState(best_metric=1.0), control, metrics={"eval_loss": 1.0})
    assert "has no eval_f1" in caplog.text
    assert (callback.early_stopping_patience_counter, control.should_training_stop) == (0, False)


def test_the_state_is_the_references() -> None:
    states = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            callback = lib.EarlyStoppingCallback(3, 0.5)
            callback.early_stopping_patience_counter = 2
            states.append(callback.state())
    assert states[0] == states[1]
    again = etude.EarlyStoppingCallback.from_state(states[0])
    assert again.state() == states[0]
