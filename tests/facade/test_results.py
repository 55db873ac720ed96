"""Metrics as scripts print and keep them, beside the reference's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.trainer_pt_utils import metrics_format as reference_format

import etude
from tests import helpers
from tests.parity.runner import DICT, build_trainer

METRICS = {
    "train_runtime": 3725.25,
    "train_loss": 0.123456789,
    "total_flos": 5 * 2**30 + 7,
    "train_samples": 12,
    "init_mem_cpu_alloc_delta": 3 << 20,
    "note": "text",
}


def told(library: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str, dict[str, str]]:
    """What a library formats, prints and writes for the same metrics."""
    with helpers.library(library) as lib:
        trainer = build_trainer(lib, DICT, folder)
        capsys.readouterr()
        trainer.log_metrics("train", METRICS)
        printed = capsys.readouterr().out
        trainer.save_metrics("train", METRICS)
        trainer.save_metrics("eval", {"eval_loss": 0.5}, combined=False)
        trainer.save_metrics("test", {"test_loss": 0.25})
        trainer.save_state()
        return (
            lib.Trainer.metrics_format(METRICS),
            printed,
            {p.name: p.read_text() for p in folder.glob("*.json")},
        )


def test_results_equal_those_of_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = (told(name, tmp_path / name, capsys) for name in ("etude", "transformers"))
    assert ours == theirs
    assert json.loads(ours[2]["all_results.json"]) == {**METRICS, "test_loss": 0.25}
    assert set(ours[2]) == {f"{n}_results.json" for n in ("all", "train", "test", "eval")} | {
        "trainer_state.json"
    }


numbers = st.one_of(st.integers(0, 10**12), st.floats(0, 10**6))


@given(
    st.dictionaries(
        st.sampled_from(["eval_runtime", "eval_x_runtime_s", "total_flos", "eval_loss", "epoch", "step"]),
        numbers,
    )
)
def test_any_number_is_shown_as_the_reference_shows_it(metrics: dict[str, Any]) -> None:
    metrics = {name: min(value, 10**9) if "_runtime" in name else value for name, value in metrics.items()}
    assert etude.Trainer.metrics_format(metrics) == reference_format(metrics)
