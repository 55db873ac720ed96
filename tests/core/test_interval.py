"""Does an interval mean what the reference means by the same number?"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.interval import Interval, aligned, seconds
from etude.core.state import TrainerState
from etude.errors import ConfigurationError
from tests import helpers
from tests.properties import quick

shares = st.floats(min_value=0.0, max_value=1.0, exclude_min=True, exclude_max=True)
totals = st.integers(min_value=1, max_value=10**6)


@quick
@given(st.integers(min_value=0, max_value=10**9), totals)
def test_a_whole_number_means_itself(steps: int, total: int) -> None:
    interval = Interval.parse(steps, "save_steps")
    assert not interval.is_share
    assert interval.steps(total) == interval.normalized() == steps


@quick
@given(shares, totals)
def test_a_share_is_at_least_one_step_and_at_most_the_run(share: float, total: int) -> None:
    interval = Interval.parse(share, "save_steps")
    assert interval.is_share
    assert interval.normalized() == share
    assert 1 <= interval.steps(total) <= total


@quick
@given(st.floats(min_value=1.0, max_value=1e9, exclude_min=True).filter(lambda value: value != int(value)))
def test_a_fraction_above_one_is_refused(value: float) -> None:
    with pytest.raises(ConfigurationError, match="`eval_steps="):
        Interval.parse(value, "eval_steps")


@quick
@given(st.floats(max_value=0.0, exclude_max=True, allow_nan=False))
def test_a_negative_number_is_refused(value: float) -> None:
    with pytest.raises(ConfigurationError, match="`eval_steps` must not be negative"):
        Interval.parse(value, "eval_steps")


@quick
@given(st.one_of(shares, st.integers(min_value=1, max_value=5000)), totals)
def test_steps_of_a_run_are_those_of_the_reference(value: float, total: int) -> None:
    args = SimpleNamespace(logging_steps=value, eval_steps=None, save_steps=value)
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            state = lib.TrainerState()
        state.compute_steps(args, total)
        found.append((state.logging_steps, state.eval_steps, state.save_steps))
    assert found[0] == found[1]


def test_one_is_a_step_and_not_the_whole_run() -> None:
    state = TrainerState()
    state.compute_steps(SimpleNamespace(logging_steps=1.0, eval_steps=1, save_steps=0), 100)
    assert (state.logging_steps, state.eval_steps, state.save_steps) == (1, 1, 0)


@quick
@given(st.integers(min_value=0, max_value=10**5), st.integers(min_value=1, max_value=10**5))
def test_aligned_checkpoints_meet_evaluations_and_become_no_rarer(save: int, evaluate: int) -> None:
    found = int(aligned(save, evaluate))
    assert found % evaluate == 0 or evaluate % found == 0
    assert found <= max(save, evaluate)
    assert found > save - evaluate
    assert aligned(found, evaluate) == found


@pytest.mark.parametrize(
    ("save", "evaluate", "found"),
    [
        (500, 200, 400),
        (10, 3, 9),
        (500, 1000, 500),
        (300, 500, 500),
        (400, 200, 400),
        (0, 50, 50),
        (0.3, 0.1, 0.3),
        (0.3, 0.2, 0.2),
        (0.1, 0.2, 0.1),
        (0.7, 0.3, 0.6),
        (0.5, 1e-9, 0.5),
    ],
)
def test_alignment_changes_as_little_as_it_can(save: float, evaluate: float, found: float) -> None:
    assert aligned(save, evaluate) == pytest.approx(found)


@quick
@given(
    st.integers(0, 9), st.integers(0, 99), st.integers(0, 99), st.integers(1, 99), st.sampled_from(["", " "])
)
def test_a_time_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, rest: int, between: str) -> None:
    text = between.join([f"{days}d", f"{hours}h", f"{minutes}min", f"{rest}s"])
    assert seconds(text, "max_time") == ((days * 24 + hours) * 60 + minutes) * 60 + rest


@pytest.mark.parametrize(
    ("value", "found"), [("90s", 90), ("1.5h", 5400), ("30min", 1800), ("2m", 120), ("45", 45), (20, 20.0)]
)
def test_a_time_in_one_unit(value: float | str, found: float) -> None:
    assert seconds(value, "max_time") == found


@pytest.mark.parametrize("value", ["", "soon", "0s", "-5min", "5 parsecs", "1h30", 0, -1, "inf", "nan"])
def test_what_is_no_time_is_refused(value: float | str) -> None:
    with pytest.raises(ConfigurationError, match="`max_time=.*is no time"):
        seconds(value, "max_time")


def test_a_time_is_no_number_of_steps() -> None:
    interval = Interval.parse("30min", "save_steps", by_clock=True)
    assert (interval.text, interval.steps(100), interval.normalized()) == ("30min", 0, "30min")
    assert Interval.parse("500", "save_steps", by_clock=True).normalized() == 500
    with pytest.raises(ConfigurationError, match="`eval_steps` must be a number, it is '30min'"):
        Interval.parse("30min", "eval_steps")
