"""Are the schedules those of the reference, number for number, by name, by function, and after a resume?"""

from __future__ import annotations

import inspect
import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import etude
from etude.errors import ConfigurationError, UnknownArgumentError
from etude.optim import schedules
from tests import helpers
from tests.properties import quick

# Names with the arguments that they need, and with others.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "linear": [{}],
    "cosine": [{}, {"num_cycles": 1.25}],
    "cosine_with_restarts": [{}, {"num_cycles": 3}],
    "polynomial": [{}, {"lr_end": 0.01, "power": 2.5}],
    "constant": [{}],
    "constant_with_warmup": [{}],
    "inverse_sqrt": [{}, {"timescale": 7}],
    "cosine_with_min_lr": [{"min_lr": 0.02}, {"min_lr_rate": 0.3, "num_cycles": 0.75}],
    "cosine_warmup_with_min_lr": [{"min_lr": 0.02}, {"min_lr_rate": 0.3, "warmup_lr_rate": 0.2}],
    "warmup_stable_decay": [
        {"num_decay_steps": 4},
        {"num_decay_steps": 3, "min_lr_ratio": 0.1, "warmup_type": "cosine", "decay_type": "linear"},
        {"num_decay_steps": 3, "num_stable_steps": 2, "warmup_type": "1-sqrt", "decay_type": "1-sqrt"},
        {"num_decay_steps": 5, "num_cycles": 1.5},
    ],
}
CASES = [(name, options) for name, variants in OPTIONS.items() for options in variants]
FUNCTIONS = sorted({make.__name__ for make in schedules.SCHEDULES.values()} | {"get_scheduler"})


def optimizer(groups: int = 1) -> torch.optim.Optimizer:
    rates = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.1 / (n + 1)} for n in range(groups)]
    return torch.optim.SGD(rates, lr=0.1)


def rates(schedule: Any, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        assert schedule.get_last_lr() == [group["lr"] for group in schedule.optimizer.param_groups]
        found.append(list(schedule.get_last_lr()))
        schedule.optimizer.step()
        schedule.step()
    return found


def scheduler(
    library: str, name: str, warmup: int, total: int, options: dict[str, Any], groups: int = 1
) -> Any:
    with helpers.library(library) as lib:
        return lib.get_scheduler(name, optimizer(groups), warmup, total, scheduler_specific_kwargs=options)


@quick
@given(st.sampled_from(CASES), st.integers(0, 12), st.integers(1, 25), st.integers(1, 3))
def test_rates_are_those_of_the_reference(
    case: tuple[str, dict[str, Any]], warmup: int, length: int, groups: int
) -> None:
    name, options = case
    total = warmup + options.get("num_decay_steps", 0) + length
    theirs, ours = (scheduler(lib, name, warmup, total, options, groups) for lib in ("transformers", "etude"))
    assert rates(ours, total + 3) == rates(theirs, total + 3)


def test_every_name_of_the_reference_is_there() -> None:
    from transformers import optimization

    assert set(schedules.SCHEDULES) == {name.value for name in optimization.TYPE_TO_SCHEDULER_FUNCTION}
    assert set(schedules.SCHEDULES) == set(OPTIONS) | set(schedules.BY_METRIC)


@pytest.mark.parametrize("function", [*FUNCTIONS, "get_adafactor_schedule"])
def test_signatures_are_those_of_the_reference(function: str) -> None:
    from transformers import optimization

    def arguments(lib: Any) -> list[tuple[str, Any, Any]]:
        found = inspect.signature(getattr(lib, function)).parameters.values()
        return [(p.name, p.default, p.kind) for p in found]

    assert arguments(etude) == arguments(optimization)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize(("written_by", "read_by"), [("transformers", "etude"), ("etude", "transformers")])
def test_a_run_is_resumed_under_the_other_library(
    name: str, options: dict[str, Any], written_by: str, read_by: str
) -> None:
    first = scheduler(written_by, name, 2, 12, options, groups=2)
    rates(first, 5)
    file = io.BytesIO()
    torch.save((first.state_dict(), first.optimizer.state_dict()), file)
    file.seek(0)
    state, moved = torch.load(file, weights_only=True)
    second = scheduler(read_by, name, 2, 12, options, groups=2)
    assert second.state_dict().keys() == state.keys()
    second.optimizer.load_state_dict(moved)
    second.load_state_dict(state)
    assert rates(second, 8) == rates(first, 8)


@pytest.mark.parametrize(
    ("name", "option", "known"),
    [
        ("linear", "num_cycles", "last_epoch"),
        ("cosine", "min_lr", "num_cycles"),
        ("constant", "power", "last_epoch"),
        ("reduce_lr_on_plateau", "num_cycles", "patience"),
        ("greedy", "gamma", "factor"),
    ],
)
def test_an_option_that_a_schedule_does_not_take_is_refused(name: str, option: str, known: str) -> None:
    with pytest.raises(UnknownArgumentError, match=f"'{name}' has no option '{option}'.*{known}"):
        etude.get_scheduler(name, optimizer(), 0, 10, {option: 1})


@pytest.mark.parametrize(
    ("name", "lengths", "options", "message"),
    [
        ("linear", (None, 10), {}, "'linear' requires `num_warmup_steps`"),
        ("cosine", (0, None), {}, "'cosine' requires `num_training_steps`"),
        ("warmup_stable_decay", (0, 10), {}, "requires `num_decay_steps`.*lr_scheduler_kwargs"),
        ("warmup_stable_decay", (0, None), {"num_decay_steps": 2}, "num_training_steps.*num_stable_steps"),
        ("warmup_stable_decay", (4, 10), {"num_decay_steps": 7}, "4 \\+ 7 updates, the run has only 10"),
        ("warmup_stable_decay", (0, 10), {"num_decay_steps": 2, "decay_type": "sqrt"}, "decay_type.*1-sqrt"),
        ("cosine_with_min_lr", (0, 10), {}, "min_lr.*min_lr_rate"),
        ("cosine_warmup_with_min_lr", (0, 10), {"min_lr": 0.1, "min_lr_rate": 0.1}, "Only one"),
        ("polynomial", (0, 10), {"lr_end": 0.1}, "lr_end \\(0.1\\) must be smaller"),
        ("greedy", (0, 10), {"factor": 1.5}, "factor.*< 1.0"),
        ("greedy", (0, 10), {"mode": "most"}, "'most' is unknown"),
        ("greedy", (0, 10), {"threshold_mode": "most"}, "'most' is unknown"),
        ("greedy", (0, 10), {"min_lr": [0.1, 0.2]}, "`min_lr` needs one value for each of the 1"),
        ("liner", (0, 10), {}, "'linear'"),
    ],
)
def test_what_cannot_work_is_refused(
    name: str, lengths: tuple[Any, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        etude.get_scheduler(name, optimizer(), *lengths, scheduler_specific_kwargs=options)


def test_a_warm_up_as_long_as_the_run_is_no_division_by_zero() -> None:
    found = rates(scheduler("etude", "polynomial", 3, 3, {}), 5)
    assert all(math.isfinite(rate) for group in found for rate in group)


def test_stable_steps_that_do_not_fill_the_run_are_told(caplog: pytest.LogCaptureFixture) -> None:
    scheduler("etude", "warmup_stable_decay", 1, 10, {"num_decay_steps": 2, "num_stable_steps": 7})
    assert not caplog.records
    scheduler("etude", "warmup_stable_decay", 1, 10, {"num_decay_steps": 2, "num_stable_steps": 3})
    assert "1 + 3 + 2 updates, the run has 10" in caplog.text


def test_constant_takes_no_lengths() -> None:
    assert rates(etude.get_scheduler("constant", optimizer()), 3) == [[0.1]] * 3
