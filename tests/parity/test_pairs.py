"""Options in pairs: each with each other at least once, in both libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.parity.families import KINDS
from tests.parity.options import EVERY_3, WINDOWS
from tests.parity.pairwise import Row, all_pairs, covering_rows, pairs_of
from tests.parity.runner import Case, assert_same_outcome, run_both

LOWEST = {"metric_for_best_model": "loss", "greater_is_better": False}
AXES: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "keeping": {
        "nothing": {},
        "evaluated": {"eval_strategy": "steps", "eval_steps": 3, "eval_delay": 4},
        "evaluated-first": {"eval_strategy": "steps", "eval_steps": 0.3, "eval_on_start": True},
        "saved": {"save_strategy": "steps", "save_steps": 0.4, "save_total_limit": 1},
        "epochs": {"eval_strategy": "epoch", "save_strategy": "epoch"},
        "best-at-end": {**EVERY_3, **LOWEST, "load_best_model_at_end": True},
        "only-best": {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "best", **LOWEST},
    },
    "kind": {name: {} for name in ("dict", "tuple", "bert", "llama", "t5", "lora", "frozen")},
    "cut": {
        "4": {},
        "2x3": WINDOWS,
        "2x5-short": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 5},
        "5-dropped": {"per_device_train_batch_size": 5, "dataloader_drop_last": True},
    },
    "optimizer": {
        "adamw": {"weight_decay": 0.1},
        "sgd": {"optim": "sgd", "learning_rate": 0.05},
        "adafactor": {"optim": "adafactor"},
        "rmsprop": {"optim": "rmsprop", "adam_epsilon": 1e-6},
    },
    "schedule": {
        "linear": {},
        "cosine": {"lr_scheduler_type": "cosine", "warmup_steps": 3},
        "constant": {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0.3},
        "polynomial": {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 2.0}},
    },
    "length": {"two": {}, "one-and-a-bit": {"num_train_epochs": 1.4}, "seven-updates": {"max_steps": 7}},
    "logging": {
        "each": {},
        "third-and-first": {"logging_steps": 3, "logging_first_step": True},
        "epoch": {"logging_strategy": "epoch"},
    },
    "clipping": {"1": {}, "0": {"max_grad_norm": 0.0}, "0.1": {"max_grad_norm": 0.1}},
    "counting": {
        "no": {},
        "all": {"include_num_input_tokens_seen": "all"},
        "without-padding": {"include_num_input_tokens_seen": "non_padding"},
    },
    "order": {
        "random": {},
        "data-seed": {"data_seed": 3},
        "in-order": {"train_sampling_strategy": "sequential"},
    },
    "loss": {"own": {}, "smoothed": {"label_smoothing_factor": 0.1}},
    "format": {"float32": {}, "bf16": {"bf16": True}},
    "memory": {"kept": {}, "recomputed": {"activation_checkpointing": True}},
    "metrics": {"all": {}, "loss-only": {"prediction_loss_only": True}},
}
LEVELS = {axis: list(levels) for axis, levels in AXES.items()}


def fits(row: Row) -> bool:
    """Whether the reference can do it: smoothing and recomputation need a model of transformers."""
    plain = row.get("kind") in ("dict", "tuple")
    return not (plain and (row.get("loss") == "smoothed" or row.get("memory") == "recomputed"))


def case_of(row: Row) -> Case:
    """The training that a row describes.

    The evaluation is one batch: the reference leaves the rest of the samples out where `dataloader_drop_last` is set.
    """
    fields = {"learning_rate": 1e-3, "per_device_eval_batch_size": 19}
    for axis, level in row.items():
        fields |= AXES[axis][level]
    return replace(KINDS[row["kind"]].having(**fields), name="-".join(row.values()))


ROWS = covering_rows(LEVELS, fits)


def test_the_rows_hold_every_pair() -> None:
    assert all(fits(row) and row.keys() == AXES.keys() for row in ROWS)
    held = {pair for row in ROWS for pair in pairs_of(row)}
    assert held == set(all_pairs(LEVELS, fits))
    assert len(ROWS) < 70


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id="-".join(row.values()), marks=() if number % 12 == 0 else pytest.mark.slow)
        for number, row in enumerate(ROWS)
    ],
)
def test_training_equals_the_reference(row: Row, tmp_path: Path) -> None:
    """Log rows, weights, results, the trainer's state and that of every checkpoint agree."""
    case = case_of(row)
    theirs, ours = run_both(case, tmp_path)
    assert_same_outcome(ours, theirs, case.relative)
