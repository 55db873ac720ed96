"""What the suite of the samplers that go by length runs on every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from etude.data.budget import flattened
from tests import helpers
from tests.contracts.resuming import rows_with_lengths
from tests.distributed import workloads

OPTIONS: dict[str, dict[str, Any]] = {
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "batch_rebalance": {"train_sampling_strategy": "batch_rebalance"},
    "token_budget": {"max_tokens_per_batch": 24},
}
STRATEGIES = tuple(OPTIONS)
SIZE = 44  # five updates an epoch, and one of four samples


def sequences(folder: Path, strategy: str, world: int, windows: int) -> dict[str, Any]:
    """Two epochs of a language model over sequences of several lengths.

    Without Adam, which makes a step of any gradient, be it only rounding.
    """
    rows = workloads.ReadRows(helpers.sequence_rows(SIZE, seed=6).rows)
    trainer = workloads.build(
        folder, rows, helpers.gpt2_model, collator=helpers.pad_texts, optim="sgd", learning_rate=0.3,
        **OPTIONS[strategy], **workloads.cut(world, windows),
    )  # fmt: skip
    loader = trainer.get_train_dataloader()
    rows.read.clear()
    sizes = [len(batch["input_ids"]) for batch in flattened(loader) if batch is not None]
    read = list(rows.read)
    trainer.train()
    return {"weights": helpers.weights_of(trainer.model), "sizes": sizes, "read": read}


def noisy(folder: Path, strategy: str, resume: bool | None = None, callbacks: Any = ()) -> dict[str, Any]:
    """A run whose data and model draw random numbers."""
    options = {
        name: 3 * value if name == "max_tokens_per_batch" else value
        for name, value in OPTIONS[strategy].items()
    }
    trainer = workloads.build(
        folder, rows_with_lengths(SIZE), workloads.with_dropout, callbacks,
        **{**workloads.TRAINING, **workloads.cut(2, 2), **options},
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return {
        "weights": helpers.weights_of(trainer.model),
        "rows": helpers.without_timing(trainer.state.log_history),
    }


def run_sampling_suite(folder: Path) -> None:
    """Each strategy: whole, broken off and resumed, and cut in two ways."""
    found: dict[str, Any] = {}
    for name in STRATEGIES:
        for windows in (1, 2):
            found[name, windows] = sequences(folder / f"{name}-{windows}", name, 2, windows)
        found[name, "whole"] = noisy(folder / f"{name}-whole", name)
        with helpers.library("etude") as lib:
            broken = [workloads.make_breaker(lib, 7)]
        try:
            noisy(folder / f"{name}-broken", name, callbacks=broken)
        except workloads.InterruptedRunError:
            found[name, "resumed"] = noisy(folder / f"{name}-broken", name, resume=True)
    torch.save(found, folder / f"sampling-{workloads.rank()}.pt")
