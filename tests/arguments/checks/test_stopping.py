"""Times in arguments: where they are taken, where they are refused, and what they become."""

from __future__ import annotations

from typing import Any

import pytest

from etude import HfArgumentParser, TrainingArguments
from etude.errors import ConfigurationError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_time": "soon"}, "`max_time='soon'` is no time"),
        ({"max_time": 0}, "`max_time=0` is no time"),
        ({"save_steps": "often"}, "`save_steps='often'` is no time"),
        ({"eval_strategy": "steps", "eval_steps": "30min"}, "`eval_steps` must be a number"),
        ({"logging_steps": "30min"}, "`logging_steps` must be a number"),
        ({"enable_jit_checkpoint": True, "save_on_signal": False}, "leave one out"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainingArguments("x", **fields)


def test_a_time_stays_as_it_is_written() -> None:
    args = TrainingArguments("x", save_steps="30min", max_time="20h")
    again = TrainingArguments.from_dict(args.to_dict())
    assert (again.save_steps, again.max_time) == ("30min", "20h")


def test_times_on_the_command_line() -> None:
    parser = HfArgumentParser(TrainingArguments)
    (args,) = parser.parse_args_into_dataclasses(
        ["--output_dir", "x", "--save_steps", "30min", "--max_time", "7200"]
    )
    assert (args.save_steps, args.max_time) == ("30min", 7200.0)
    (args,) = parser.parse_args_into_dataclasses(["--output_dir", "x", "--save_steps", "50"])
    assert (args.save_steps, type(args.save_steps)) == (50, int)


def test_the_best_model_needs_checkpoints_at_evaluations() -> None:
    args = TrainingArguments(
        "x", load_best_model_at_end=True, eval_strategy="steps", eval_steps=50, save_steps="30min"
    )
    assert args.save_steps == 50
