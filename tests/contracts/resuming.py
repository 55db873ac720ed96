"""Scenarios of the resume suite: runs that are broken off and begun again, with as much randomness as users have."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, default_collate

from etude.checkpoint.storage import local_folder
from tests import helpers

Row = dict[str, Any]


class InterruptedRunError(Exception):
    """What the breaker raises."""


# --- data with randomness of its own ------------------------------------------------------------------------------


class Augmented(helpers.Rows):
    """Rows with noise from all three random generators, new at each reading."""

    def __getitem__(self, index: int) -> Row:
        row = super().__getitem__(index)
        noise = torch.randn(helpers.NUM_FEATURES) + float(np.random.normal()) + random.random()
        return {**row, "features": row["features"] + 0.1 * noise}


def rows_with_lengths(count: int) -> Augmented:
    """Such rows of several lengths, as far as the samplers that go by them can tell."""
    rows = helpers.feature_rows(count).rows
    return Augmented([{**row, "length": 1 + 37 * i % 50} for i, row in enumerate(rows)])


class CountingRows(helpers.Rows):
    """Rows that remember which of them were read."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__(rows)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> Row:
        self.read.append(index)
        return super().__getitem__(index)


class Stream(IterableDataset):
    """A stream of rows without a length, the same at each pass, with noise at each reading if so wanted."""

    def __init__(self, count: int, noisy: bool = False) -> None:
        self.rows = (Augmented if noisy else helpers.Rows)(helpers.feature_rows(count).rows)

    def __iter__(self) -> Any:
        return (self.rows[index] for index in range(len(self.rows)))


def noisy_collate(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """A collator that draws from all three random generators, as masking does."""
    batch = default_collate(list(rows))
    noise = torch.rand(len(rows), 1) + float(np.random.random()) + random.random()
    return {**batch, "features": batch["features"] * (1 + 0.1 * noise)}


# --- scenarios ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A run: 40 rows in micro-batches of 4, two an update, so 5 updates an epoch and 15 in all."""

    rows: Callable[[], Dataset] = lambda: Augmented(helpers.feature_rows(40).rows)
    model: Callable[[], nn.Module] = lambda: helpers.DictClassifier(dropout=0.3)
    collator: Callable[..., Any] = noisy_collate
    callbacks: Callable[[ModuleType], list[Any]] = lambda lib: []
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def having(self, **arguments: Any) -> Scenario:
        """The same with further training arguments."""
        return replace(self, arguments={**self.arguments, **arguments})


BASE = Scenario(
    arguments={
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 3,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_strategy": "steps",
        "save_steps": 3,
        "warmup_steps": 4,
        "weight_decay": 0.01,
        "metric_for_best_model": "accuracy",
    }
)


def early_stopping(lib: ModuleType) -> list[Any]:
    """Stop after two evaluations without progress."""
    return [lib.EarlyStoppingCallback(early_stopping_patience=2)]


SCENARIOS: dict[str, Scenario] = {
    "base": BASE,
    "one-worker": BASE.having(dataloader_num_workers=1),
    "two-workers": BASE.having(dataloader_num_workers=2),
    "persistent-workers": BASE.having(dataloader_num_workers=2, dataloader_persistent_workers=True),
    "save-at-epoch-end": BASE.having(save_steps=5),
    "save-and-eval-at-epoch-end": BASE.having(save_steps=5, eval_steps=5, logging_steps=5),
    # The checkpoint of step 5 comes before the evaluation of that epoch.
    "save-steps-eval-epochs": BASE.having(save_steps=5, eval_strategy="epoch", logging_strategy="epoch"),
    "save-and-eval-epochs": BASE.having(save_strategy="epoch", eval_strategy="epoch", logging_steps=3),
    "short-last-window": replace(BASE, rows=lambda: Augmented(helpers.feature_rows(34).rows)),
    "sequential": BASE.having(train_sampling_strategy="sequential"),
    "group-by-length": replace(BASE, rows=lambda: rows_with_lengths(42)).having(
        train_sampling_strategy="group_by_length"
    ),
    "batch-rebalance": replace(BASE, rows=lambda: rows_with_lengths(42)).having(
        train_sampling_strategy="batch_rebalance"
    ),
    "batch-rebalance-with-workers": replace(BASE, rows=lambda: rows_with_lengths(42)).having(
        train_sampling_strategy="batch_rebalance",
        dataloader_num_workers=2,
        dataloader_persistent_workers=True,
    ),
    "token-budget": replace(BASE, rows=lambda: rows_with_lengths(42)).having(max_tokens_per_batch=60),
    "token-budget-with-workers": replace(BASE, rows=lambda: rows_with_lengths(42)).having(
        max_tokens_per_batch=60, dataloader_num_workers=2
    ),
    "other-data-seed": BASE.having(data_seed=99),
    "plain-language-model": replace(
        BASE,
        rows=lambda: helpers.tagged_rows(40),
        model=lambda: helpers.TokenTagger(0.3),
        collator=default_collate,
    ),
    "stream": replace(BASE, rows=lambda: Stream(400)).having(max_steps=15),
    "noisy-stream": replace(BASE, rows=lambda: Stream(400, noisy=True)).having(max_steps=15),
    "stream-with-worker": replace(BASE, rows=lambda: Stream(400, noisy=True)).having(
        max_steps=15, dataloader_num_workers=1
    ),
    "stream-of-several-passes": replace(BASE, rows=lambda: Stream(40)).having(max_steps=15),
    "early-stopping": replace(BASE, callbacks=early_stopping).having(
        num_train_epochs=8,
        learning_rate=0.1,
        eval_steps=3,
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,
    ),
    "limited": BASE.having(save_total_limit=1),
}


# --- running ------------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What is left of a run."""

    weights: dict[str, torch.Tensor]
    rows: list[Row]
    file_rows: list[Row]
    output: Any


def read_log_file(folder: Path) -> list[Row]:
    """The rows of ``log.jsonl`` without what depends on the clock."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return helpers.without_timing([json.loads(line) for line in lines])


def make_breaker(lib: ModuleType, event: str, step: int) -> Any:
    """A callback that raises at the first ``event`` at or after ``step``."""

    def interrupt(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= step:
            raise InterruptedRunError(f"{event} of step {state.global_step}")

    return type("Breaker", (lib.TrainerCallback,), {event: interrupt})()


def build(
    scenario: Scenario,
    folder: Path | str,
    lib: ModuleType,
    extra: Sequence[Any] = (),
    trainer_class: Any = None,
) -> Any:
    """A trainer as a script builds it: all of it anew."""
    torch.manual_seed(21)
    return (trainer_class or lib.Trainer)(
        model=scenario.model(),
        args=helpers.training_arguments(lib, folder, **scenario.arguments),
        data_collator=scenario.collator,
        train_dataset=scenario.rows(),
        eval_dataset=_evaluation_rows(scenario),
        compute_metrics=helpers.accuracy,
        callbacks=[*scenario.callbacks(lib), *extra],
    )


def _evaluation_rows(scenario: Scenario) -> Dataset:
    if isinstance(scenario.model(), helpers.TokenTagger):
        return helpers.tagged_rows(10, seed=9)
    return Augmented(helpers.feature_rows(10, seed=9).rows)  # evaluation draws random numbers too


def finish(scenario: Scenario, folder: Path | str, resume: bool | str | None = None) -> Result:
    """Run to the end, in a folder or at a URL."""
    with helpers.library("etude") as lib:
        trainer = build(scenario, folder, lib)
        output = trainer.train(resume_from_checkpoint=resume)
    rows = helpers.without_timing(trainer.state.log_history)
    file_rows = read_log_file(Path(local_folder(str(folder))))
    return Result(helpers.weights_of(trainer.model), rows, file_rows, output)


def break_off(scenario: Scenario, folder: Path, event: str, step: int, resume: bool | None = None) -> None:
    """Run until the breaker raises."""
    with helpers.library("etude") as lib:
        trainer = build(scenario, folder, lib, [make_breaker(lib, event, step)])
        with pytest.raises(InterruptedRunError):
            trainer.train(resume_from_checkpoint=resume)


def visible_checkpoints(folder: Path) -> list[str]:
    """Names that ``resume_from_checkpoint=True`` chooses from, by step."""
    names = [path.name for path in folder.iterdir() if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(names, key=lambda name: int(name.split("-")[1]))


def assert_same_run(resumed: Result, whole: Result) -> None:
    """Weights are bit-identical, and so is every number in the history and in the log file."""
    helpers.assert_identical(resumed.weights, whole.weights)
    assert resumed.rows == whole.rows
    assert resumed.file_rows == whole.file_rows
    assert resumed.output.global_step == whole.output.global_step
    assert resumed.output.training_loss == whole.output.training_loss
