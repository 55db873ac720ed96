"""What the distributed suite runs on every rank; each part leaves a file that the tests read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils.data import Dataset, default_collate

from tests import helpers

GLOBAL_BATCH = 8
UNEVEN_SIZES = (1, 7, 9, 17, 33)
UNEVEN_CASES = [(size, windows, "plain") for size in UNEVEN_SIZES for windows in (1, 2)]
UNEVEN_CASES += [(9, 1, "gpt2"), (9, 2, "gpt2"), (10, 4, "gpt2")]
STEPS = 10  # 33 rows make 5 updates an epoch, the last one of a single row
TRAINING: dict[str, Any] = {
    "num_train_epochs": 2,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "save_strategy": "steps",
    "save_steps": 4,
    "weight_decay": 0.1,
    "warmup_steps": 2,
}


EVALUATED_SIZES = (1, 7, 19)


class InterruptedRunError(Exception):
    """What breaks a run off."""


def rank() -> int:
    """The number of this process; 0 where there is only one."""
    return int(os.environ.get("RANK", 0))


def cut(world: int, windows: int) -> dict[str, int]:
    """Arguments that make a global batch of eight on ``world`` ranks."""
    return {
        "per_device_train_batch_size": GLOBAL_BATCH // world // windows,
        "gradient_accumulation_steps": windows,
    }


def make_breaker(lib: ModuleType, step: int) -> Any:
    """A callback that raises at the end of ``step``, on every rank."""

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step:
            raise InterruptedRunError

    return type("Breaker", (lib.TrainerCallback,), {"on_step_end": on_step_end})()


def build(
    folder: Path,
    rows: Dataset,
    model: Callable[[], nn.Module] = helpers.DictClassifier,
    callbacks: Sequence[Any] = (),
    collator: Any = default_collate,
    compute_metrics: Any = helpers.accuracy,
    **fields: Any,
) -> Any:
    """A trainer with the same weights everywhere."""
    with helpers.library("etude") as lib:
        torch.manual_seed(3)
        return lib.Trainer(
            model=model(),
            args=helpers.training_arguments(lib, folder, **fields),
            train_dataset=rows,
            eval_dataset=helpers.feature_rows(19, seed=8),
            compute_metrics=compute_metrics,
            callbacks=list(callbacks),
            data_collator=collator,
        )


def train(folder: Path, resume: bool | str | None = None, **options: Any) -> dict[str, Any]:
    """Train on 33 rows and return what is left."""
    trainer = build(folder, helpers.feature_rows(33, seed=6), **{**TRAINING, **options})
    output = trainer.train(resume_from_checkpoint=resume)
    return {
        "weights": helpers.weights_of(trainer.model),
        "rows": helpers.without_timing(trainer.state.log_history),
        "step": output.global_step,
        "loss": output.training_loss,
    }


def with_dropout() -> nn.Module:
    """A model that draws random numbers."""
    return helpers.DictClassifier(dropout=0.2)


class Counted(helpers.DictClassifier):
    """A model whose features count as tokens."""

    main_input_name = "features"


class BatchAccuracy:
    """Counts right answers batch by batch."""

    def __init__(self) -> None:
        self.right: list[bool] = []

    def __call__(self, prediction: Any, compute_result: bool) -> dict[str, float]:
        self.right += (prediction.predictions.argmax(-1) == prediction.label_ids).tolist()
        return (
            {"accuracy": sum(self.right) / len(self.right), "seen": len(self.right)} if compute_result else {}
        )


def evaluate_by_batch(folder: Path, size: int) -> dict[str, float]:
    """Metrics of ``size`` samples, computed batch by batch."""
    trainer = build(folder, helpers.feature_rows(8), batch_eval_metrics=True, compute_metrics=BatchAccuracy())
    metrics = trainer.evaluate(helpers.feature_rows(size, seed=8))
    return {name: metrics[name] for name in ("eval_loss", "eval_accuracy", "eval_seen")}


class ReadRows(helpers.Rows):
    """Rows that remember which were read."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        super().__init__(rows)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        return super().__getitem__(index)


def train_uneven(folder: Path, world: int, windows: int, size: int, family: str = "plain") -> dict[str, Any]:
    """Train two epochs over a number of rows that no cut divides."""
    rows = ReadRows((helpers.feature_rows if family == "plain" else helpers.sequence_rows)(size, seed=6).rows)
    # GPT-2 divides by the number of tokens of the global batch, which the ranks have to count together.
    counting = {} if family == "plain" else {"model": helpers.gpt2_model, "collator": helpers.pad_texts}
    trainer = build(folder, rows, num_train_epochs=2, **counting, **cut(world, windows))
    output = trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "weights": helpers.weights_of(trainer.model),
        "losses": losses,
        "step": output.global_step,
        "read": rows.read,
    }


def count_reductions(folder: Path, windows: int) -> dict[str, int]:
    """How often DDP reduces a bucket of gradients in one epoch of four updates."""
    calls = [0]

    def hook(state, bucket):  # type: ignore[no-untyped-def]  # DDP wants its own annotations or none
        calls[0] += 1
        return allreduce_hook(state, bucket)

    with helpers.library("etude") as lib:

        class Register(lib.TrainerCallback):  # type: ignore[name-defined, misc]
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                """The model is wrapped by now."""
                trainer.model_wrapped.register_comm_hook(None, hook)

    trainer = build(
        folder, helpers.feature_rows(32), callbacks=[Register()], num_train_epochs=1, **cut(2, windows)
    )
    output = trainer.train()
    return {"reductions": calls[0], "step": output.global_step}


def run_training_suite(folder: Path) -> None:
    """Train, save, resume and count reductions, in one launch."""
    written = record_weight_writers()
    found: dict[str, Any] = {
        "whole": train(folder / "whole", model=with_dropout, **cut(2, 2)),
        "written": list(written),
    }
    found["plain"] = {windows: train(folder / f"plain-{windows}", **cut(2, windows)) for windows in (1, 2, 4)}
    with helpers.library("etude") as lib:
        broken = [make_breaker(lib, 7)]
    try:
        train(folder / "broken", model=with_dropout, callbacks=broken, **cut(2, 2))
    except InterruptedRunError:
        found["interrupted"] = True
    found["resumed"] = train(folder / "broken", resume=True, model=with_dropout, **cut(2, 2))
    found["counted"] = train(
        folder / "counted", model=Counted, include_num_input_tokens_seen="all", **cut(2, 2)
    )
    found["by_batch"] = {size: evaluate_by_batch(folder / "by-batch", size) for size in EVALUATED_SIZES}
    found["reductions"] = {windows: count_reductions(folder / "reduced", windows) for windows in (1, 2, 4)}
    torch.save(found, folder / f"found-{rank()}.pt")


def run_uneven_suite(folder: Path) -> None:
    """Numbers of rows that two ranks cannot share evenly."""
    collectives = record_collectives()
    found = {}
    for key in UNEVEN_CASES:
        size, windows, family = key
        collectives.clear()
        found[key] = train_uneven(folder / "uneven", 2, windows, size, family)
        found[key]["collectives"] = list(collectives)
    torch.save(found, folder / f"uneven-{rank()}.pt")


def record_collectives() -> list[tuple[Any, ...]]:
    """Record each collective that this process takes part in from now on: its name, and what of.

    Ranks that meet in different collectives hang, or worse: they add up bits of unlike types and go on.
    """
    seen: list[tuple[Any, ...]] = []
    for name in (
        "all_reduce",
        "broadcast",
        "all_gather",
        "all_gather_object",
        "barrier",
        "gather_object",
        "broadcast_object_list",
    ):
        original = getattr(torch.distributed, name)

        def recording(*args: Any, name: str = name, original: Any = original, **kwargs: Any) -> Any:
            tensors = [
                (str(value.dtype), tuple(value.shape)) for value in args if isinstance(value, torch.Tensor)
            ]
            seen.append((name, *tensors))
            return original(*args, **kwargs)

        setattr(torch.distributed, name, recording)
    return seen


def record_weight_writers() -> list[str]:
    """Record each file of weights that this process writes from now on."""
    import safetensors.torch

    written: list[str] = []
    for name in ("save_file", "save_model"):
        original = getattr(safetensors.torch, name)

        def recording(value: Any, path: Any, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            written.append(str(path))
            return original(value, path, *args, **kwargs)

        setattr(safetensors.torch, name, recording)
    return written
