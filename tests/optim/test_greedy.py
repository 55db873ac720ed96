"""Does GreedyLR move the learning rate as the reference's does?"""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import etude
from tests import helpers
from tests.properties import quick

METRICS = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.5000005, 1.0, 3.0, -2.0]), min_size=1, max_size=40)
OPTIONS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.sampled_from([0.5, 0.9]),
        "patience": st.integers(0, 2),
        "threshold_mode": st.sampled_from(["abs", "rel"]),
        "threshold": st.sampled_from([1e-6, 0.2]),
        "cooldown": st.integers(0, 2),
        "warmup": st.integers(0, 2),
        "min_lr": st.sampled_from([0.05, [0.01, 0.02]]),
        "max_lr": st.sampled_from([0.3, [0.2, 1.0]]),
        "smooth": st.booleans(),
        "window_size": st.integers(1, 4),
        "reset_start": st.integers(1, 3),
    }
)


def greedy(library: str, **options: Any) -> Any:
    parameters = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.1, 0.15)]
    with helpers.library(library) as lib:
        return lib.GreedyLR(torch.optim.SGD(parameters, lr=0.1), **options)


def rates(schedule: Any, metrics: list[float]) -> list[list[float]]:
    found = []
    for metric in metrics:
        schedule.step(metric)
        assert schedule.get_last_lr() == [group["lr"] for group in schedule.optimizer.param_groups]
        found.append(list(schedule.get_last_lr()))
    return found


@quick
@given(OPTIONS, METRICS)
def test_rates_are_those_of_the_reference(options: dict[str, Any], metrics: list[float]) -> None:
    assert rates(greedy("etude", **options), metrics) == rates(greedy("transformers", **options), metrics)


@quick
@given(OPTIONS, METRICS, METRICS, st.sampled_from([("transformers", "etude"), ("etude", "transformers")]))
def test_a_run_is_resumed_under_the_other_library(
    options: dict[str, Any], before: list[float], after: list[float], libraries: tuple[str, str]
) -> None:
    first, second = greedy(libraries[0], **options), greedy(libraries[1], **options)
    rates(first, before)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert second.state_dict().keys() == state.keys()
    second.load_state_dict(state)
    assert second.get_last_lr() == first.get_last_lr()
    assert rates(second, after) == rates(first, after)


def test_a_lower_bound_above_the_learning_rate_is_told(caplog: pytest.LogCaptureFixture) -> None:
    greedy("etude", min_lr=0.01)
    assert not caplog.records
    greedy("etude", min_lr=0.5)
    assert "min_lr=0.5 is above the learning rate 0.1" in caplog.text


def test_changes_are_printed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    rates(greedy("etude", patience=0, factor=0.5, reset_start=1, min_lr=0.05, verbose=True), [1.0, 1.0, 1.0])
    assert "learning rate of group 0 is now 2.0000e-01" in capsys.readouterr().out


def test_it_needs_an_optimizer() -> None:
    with pytest.raises(TypeError, match="not of a list"):
        etude.GreedyLR([])  # type: ignore[arg-type]
