"""Are numbers, rows and the start-up report what people read easily?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etude.core.state import Plan
from etude.report import text
from etude.report.startup import Facts, startup_report


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0"), (999, "999"), (22713986, "22,713,986"), (12.0, "12")]
)
def test_counts(number: float, shown: str) -> None:
    assert text.count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0"), (999, "999"), (1000, "1.0 k"), (22_713_986, "22.7 M"), (7.2e9, "7.2 B")]
)
def test_short_counts(number: float, shown: str) -> None:
    assert text.short_count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.0, "0"), (1.0, "1"), (0.123456, "0.1235"), (5e-5, "5.000e-05"), (-0.5, "-0.5"), (1234567.0, "1.235e+06"),
        (float("nan"), "nan"), (float("inf"), "inf"), (7, "7"), (True, "True"), ("text", "text"), (None, "None"),
    ],
)  # fmt: skip
def test_values(number: Any, shown: str) -> None:
    assert text.value(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"), (42.34, "42.3 s"), (59.94, "59.9 s"), (59.97, "1 min 00 s"), (60, "1 min 00 s"),
        (307.4, "5 min 07 s"), (3599.6, "1 h 00 min"), (3600, "1 h 00 min"), (11520, "3 h 12 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_a_row_says_where_what_and_how_fast() -> None:
    logs = {"loss": 0.5, "learning_rate": 5e-5, "epoch": 1.5, "step": 3, "total_flos": 9.0,
            "eval_runtime": 61.0, "eval_samples_per_second": 12.5, "eval_steps_per_second": 1.0}  # fmt: skip
    before = dict(logs)
    assert text.row(logs, 3, 10) == (
        "step 3/10 (epoch 1.50)  loss 0.5  learning_rate 5.000e-05  (1 min 01 s, 12.5 samples/s)"
    )
    assert logs == before


def test_long_texts_are_left_out_of_a_row() -> None:
    logs = {"table": "x" * 101, "note": "y" * 100}
    assert text.row(logs, 1, 2) == f"step 1/2  table <101 characters>  note {'y' * 100}"
    assert text.row({"note": "abc"}, 1, 2, longest=2) == "step 1/2  note <3 characters>"


@pytest.mark.parametrize(
    ("logs", "max_steps", "shown"),
    [
        ({"loss": 1, "epoch": None}, 2, "step 1/2  loss 1"),
        ({"loss": 1, "epoch": 0}, 2, "step 1/2 (epoch 0.00)  loss 1"),
        ({"eval_loss": 1, "epoch": 0}, 0, "no training  eval_loss 1"),
    ],
)
def test_a_row_has_an_epoch_only_where_there_is_one(logs: dict[str, Any], max_steps: int, shown: str) -> None:
    assert text.row(logs, 1, max_steps) == shown


FACTS = Facts(
    model="BertForSequenceClassification",
    num_parameters=22_713_986,
    num_trainable=22_713_986,
    plan=Plan(3, 1_250, 2_500, 2_500, 3_750, 40_000, 120_000.0, 32),
    micro_batch=16,
    accumulation_steps=2,
    world_size=1,
    precision="bfloat16 (autocast)",
    device="cuda:0",
    strategy="1 process",
    output_dir="runs/a",
    resumed_from=None,
    first_step=0,
)

GOLDEN = """\
Training
  model         BertForSequenceClassification, 22.7 M parameters, all trained
  data          40,000 samples
  updates       3,750 (3 epochs of 1,250)
  global batch  32 samples = 16 on a device x 2 accumulated
  device        cuda:0, bfloat16 (autocast), 1 process
  saved to      runs/a"""


def test_the_report_is_this() -> None:
    assert startup_report(FACTS) == GOLDEN


def lines_of(**changes: Any) -> dict[str, str]:
    lines = startup_report(replace(FACTS, **changes)).splitlines()[1:]
    return {line[2:14].strip(): line[16:] for line in lines}


def test_frozen_parameters_are_told_apart() -> None:
    assert lines_of(num_trainable=227_140)["model"].endswith("22.7 M parameters, 227.1 k trained (1.0%)")


def test_streams_have_no_epochs() -> None:
    plan = Plan(None, 500, None, 1000, 500, 16_000, 16_000.0, 32)
    found = lines_of(plan=plan)
    assert (found["data"], found["updates"]) == ("a stream of unknown length", "500")


def test_part_of_an_epoch_is_shown() -> None:
    plan = replace(FACTS.plan, max_steps=625)
    assert lines_of(plan=plan)["updates"] == "625 (0.5 epochs of 1,250)"


def test_processes_multiply_the_batch() -> None:
    found = lines_of(world_size=4, accumulation_steps=1, strategy="4 processes (ddp)")
    assert found["global batch"].endswith("= 16 on a device x 4 processes")


def test_a_resumed_run_says_from_where() -> None:
    assert lines_of(resumed_from="runs/a/checkpoint-1000", first_step=1000)["resumed"] == (
        "runs/a/checkpoint-1000, at step 1,000"
    )
