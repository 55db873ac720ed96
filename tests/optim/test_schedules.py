"""Are the curves those of the reference, number for number?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.errors import ConfigurationError
from etude.optim.schedules import CURVES, build_schedule
from tests import helpers
from tests.properties import quick

OPTIONS: dict[str, dict[str, Any]] = {"cosine": {"num_cycles": 1.25}}


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)


def rates(schedule: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return found


@quick
@given(st.sampled_from(sorted(CURVES)), st.integers(0, 12), st.integers(1, 25), st.booleans())
def test_rates_are_those_of_the_reference(name: str, warmup: int, total: int, with_options: bool) -> None:
    options = OPTIONS.get(name) if with_options else None
    with helpers.library("transformers") as lib:
        theirs = lib.get_scheduler(name, optimizer(), warmup, total, scheduler_specific_kwargs=options)
    ours = build_schedule(name, optimizer(), warmup=warmup, total=total, options=options)
    assert rates(ours, total + 3) == rates(theirs, total + 3)


@pytest.mark.parametrize("name", CURVES)
def test_the_state_is_the_references(name: str) -> None:
    with helpers.library("transformers") as lib:
        theirs = lib.get_scheduler(name, optimizer(), 2, 10)
    ours = build_schedule(name, optimizer(), warmup=2, total=10)
    rates(theirs, 3)
    expected = rates(theirs, 4)
    ours.load_state_dict(build_at(name, 3).state_dict())
    assert rates(ours, 4) == expected
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def build_at(name: str, step: int) -> Any:
    schedule = build_schedule(name, optimizer(), warmup=2, total=10)
    rates(schedule, step)
    return schedule


@pytest.mark.parametrize(
    ("name", "option", "known"), [("linear", "num_cycles", "none"), ("cosine", "min_lr", "num_cycles")]
)
def test_an_option_that_a_schedule_does_not_take_is_refused(name: str, option: str, known: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}' has no option '{option}'.*{known}"):
        build_schedule(name, optimizer(), warmup=0, total=10, options={option: 1})
