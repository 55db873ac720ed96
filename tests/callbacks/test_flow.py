"""Does the default flow ask for the same things at the same steps as the reference's?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import helpers
from tests.properties import quick

FLAGS = ("should_log", "should_evaluate", "should_save", "should_training_stop")
when = st.sampled_from(["no", "steps", "epoch"])
steps = st.one_of(st.integers(1, 7), st.sampled_from([0.1, 0.3, 0.5]))


def flags_of(lib: Any, fields: dict[str, Any], max_steps: int) -> list[Any]:
    """What is asked for at every step, and at the end of two epochs."""
    args = helpers.training_arguments(lib, "x", **fields)
    state, control, flow = (
        lib.TrainerState(max_steps=max_steps),
        lib.TrainerControl(),
        lib.DefaultFlowCallback(),
    )
    state.compute_steps(args, max_steps)
    found = []
    for step in range(1, max_steps + 1):
        state.global_step, state.epoch = step, step * 2 / max_steps
        control._new_step()
        flow.on_step_end(args, state, control)
        found.append([getattr(control, flag) for flag in FLAGS])
        if step * 2 % max_steps == 0:
            flow.on_epoch_end(args, state, control)
            found.append([getattr(control, flag) for flag in FLAGS])
    return found


@quick
@given(
    logging_strategy=when,
    eval_strategy=when,
    save_strategy=when,
    logging_steps=steps,
    eval_steps=steps,
    save_steps=st.one_of(st.just(0), steps),
    logging_first_step=st.booleans(),
    eval_delay=st.sampled_from([0, 1, 1.5, 4]),
    max_steps=st.integers(1, 12),
)
def test_everything_is_due_when_the_reference_says(max_steps: int, **fields: Any) -> None:
    if fields["save_strategy"] == "steps" and fields["save_steps"] == 0:
        fields["save_steps"] = 1  # the reference divides by zero
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            found.append(flags_of(lib, fields, max_steps))
    assert found[0] == found[1]


@pytest.mark.parametrize(("step", "saves"), [(1, False), (2, False), (3, True)])
def test_save_steps_of_zero_save_only_the_end(step: int, saves: bool) -> None:
    import etude

    assert flags_of(etude, {"save_strategy": "steps", "save_steps": 0}, 3)[step - 1][2] is saves


@pytest.mark.parametrize("step", [1, 2, 3])
def test_checkpoints_by_the_clock_are_not_the_flows_business_but_the_end_is(step: int) -> None:
    import etude

    assert flags_of(etude, {"save_strategy": "steps", "save_steps": "30min"}, 3)[step - 1][2] is (step == 3)
