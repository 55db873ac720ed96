"""Subjects of the split-invariance suite, and the gradients of their first global batches under any cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import default_collate
from transformers import GPT2LMHeadModel

from tests import helpers

GLOBAL_BATCH = 16
CUTS = ((16, 1), (8, 2), (4, 4), (2, 8), (1, 16))  # (micro-batch, accumulation steps) on one process
RANK_CUTS = ((8, 1), (4, 2), (2, 4), (1, 8))  # the same on each of two

Batch = dict[str, torch.Tensor]
Gradients = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Subject:
    """A way to define a loss.

    Attributes:
        model: builds the model; its random weights are fixed by a seed.
        rows: builds that many samples.
        truth: the loss of a whole global batch, by definition and without a trainer.
        collator: makes a micro-batch.
        trainer: turns the ``Trainer`` of a library into the user's own.
        options: further arguments of the trainer.
        arguments: further training arguments.
        half_exact: whether the model itself computes its loss in fp32, whatever its weights are.
    """

    model: Callable[[], nn.Module]
    rows: Callable[[int], helpers.Rows]
    truth: Callable[[nn.Module, Batch], torch.Tensor] = lambda model, batch: _first(model(**batch))
    collator: Callable[[Sequence[Mapping[str, Any]]], Batch] = default_collate
    trainer: Callable[[ModuleType], Any] = lambda lib: lib.Trainer
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    half_exact: bool = False

    @property
    def has_lengths(self) -> bool:
        """Whether samples are sequences of tokens of different lengths."""
        return "input_ids" in self.rows(1)[0] and self.collator is not default_collate

    def tolerance(self, dtype: torch.dtype) -> float:
        """How far a gradient may be from the true one, relative to its norm."""
        return 1e-6 if dtype == torch.float32 or self.half_exact else 1e-12


@dataclass
class Taken:
    """What the optimizer was given at each step, and what was logged about it."""

    gradients: list[Gradients]
    logged: list[float]


# --- losses users write -------------------------------------------------------------------------------------------


def _first(outputs: Any) -> torch.Tensor:
    return outputs["loss"] if isinstance(outputs, dict) else outputs[0]


def token_mean(outputs: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the tokens that count."""
    return cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten())


def mean_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """A ``compute_loss_func`` that ignores the count."""
    return token_mean(outputs, labels)


def counted_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """A ``compute_loss_func`` that divides by the count of the global batch."""
    total = cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten(), reduction="sum")
    return total / (
        num_items_in_batch if num_items_in_batch is not None else (labels != helpers.IGNORED).sum()
    )


def keyword_loss(outputs: Any, labels: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """A ``compute_loss_func`` that takes the count as one of any keywords, and ignores it."""
    return token_mean(outputs, labels)


def mean_trainer(lib: ModuleType) -> type:
    """A trainer whose ``compute_loss`` returns the mean of its micro-batch."""

    class MeanTrainer(lib.Trainer):  # type: ignore[name-defined, misc]
        def compute_loss(
            self,
            model: nn.Module,
            inputs: Batch,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            """The mean over the tokens of this micro-batch."""
            outputs = model(input_ids=inputs["input_ids"])
            loss = token_mean(outputs, inputs["labels"])
            return (loss, outputs) if return_outputs else loss

    return MeanTrainer


def counting_trainer(lib: ModuleType) -> type:
    """A trainer whose ``compute_loss`` divides a sum by the count of the global batch itself."""

    class CountingTrainer(lib.Trainer):  # type: ignore[name-defined, misc]
        def compute_loss(
            self,
            model: nn.Module,
            inputs: Batch,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            """The sum over the tokens of this micro-batch, divided by the tokens of the global batch."""
            outputs = model(input_ids=inputs["input_ids"])
            loss = counted_loss(outputs, inputs["labels"], num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

    return CountingTrainer


def _masked_truth(model: nn.Module, batch: Batch) -> torch.Tensor:
    return token_mean(model(input_ids=batch["input_ids"]), batch["labels"])


def smoothed_truth(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy with smoothed labels, as PyTorch has it."""
    labels = batch["labels"]
    outputs = model(**{key: value for key, value in batch.items() if key != "labels"})
    logits = outputs["logits"]
    if isinstance(model, GPT2LMHeadModel):
        logits, labels = logits[:, :-1], labels[:, 1:]
    epsilon = SMOOTHED["label_smoothing_factor"]
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), label_smoothing=epsilon)


SMOOTHED = {"label_smoothing_factor": 0.2}
TAGGED = {"model": helpers.TokenTagger, "rows": helpers.tagged_rows}
TEXT = {"model": helpers.bert_classifier, "rows": helpers.text_rows, "collator": helpers.pad_texts}
SEQUENCES = {"model": helpers.gpt2_model, "rows": helpers.sequence_rows, "collator": helpers.pad_texts}
SUBJECTS: dict[str, Subject] = {
    "token-tagger": Subject(**TAGGED),
    "gpt2": Subject(**SEQUENCES, half_exact=True),
    "bert": Subject(**TEXT),
    "regression": Subject(helpers.Regressor, helpers.regression_rows),
    "tuple-classifier": Subject(helpers.TupleClassifier, helpers.feature_rows),
    "mean-compute-loss": Subject(**TAGGED, truth=_masked_truth, trainer=mean_trainer),
    "counting-compute-loss": Subject(**TAGGED, truth=_masked_truth, trainer=counting_trainer),
    "mean-loss-func": Subject(**TAGGED, truth=_masked_truth, options={"compute_loss_func": mean_loss}),
    "counting-loss-func": Subject(**TAGGED, truth=_masked_truth, options={"compute_loss_func": counted_loss}),
    "smoothed-tagger": Subject(**TAGGED, truth=smoothed_truth, arguments=SMOOTHED),
    "smoothed-bert": Subject(**TEXT, truth=smoothed_truth, arguments=SMOOTHED),
    "smoothed-gpt2": Subject(**SEQUENCES, truth=smoothed_truth, arguments=SMOOTHED),
    "keyword-loss-func": Subject(**TAGGED, truth=_masked_truth, options={"compute_loss_func": keyword_loss}),
}


# --- running ------------------------------------------------------------------------------------------------------


class Cast:
    """A collator that casts floating-point tensors."""

    def __init__(self, collator: Callable[..., Batch], dtype: torch.dtype) -> None:
        self.collator = collator
        self.dtype = dtype

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        batch = self.collator(rows)
        return {
            key: value.to(self.dtype) if value.is_floating_point() else value for key, value in batch.items()
        }


def build_model(subject: Subject, dtype: torch.dtype) -> nn.Module:
    """The model of ``subject`` with weights that depend on nothing."""
    torch.manual_seed(5)
    return subject.model().to(dtype)


def truth(subject: Subject, dtype: torch.dtype, rows: helpers.Rows) -> tuple[float, Gradients]:
    """Loss and gradients of one whole global batch, without a trainer."""
    model = build_model(subject, dtype).train()
    loss = subject.truth(model, Cast(subject.collator, dtype)([rows[index] for index in range(len(rows))]))
    loss.backward()
    return loss.item(), {
        name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None
    }


def capture(lib: ModuleType, taken: list[Gradients]) -> Any:
    """A callback that copies the gradients the optimizer is about to use."""

    def on_pre_optimizer_step(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        taken.append(
            {
                name.removeprefix("module."): value.grad.clone()
                for name, value in kwargs["model"].named_parameters()
                if value.grad is not None
            }
        )

    return type("Capture", (lib.TrainerCallback,), {"on_pre_optimizer_step": on_pre_optimizer_step})()


def take_steps(
    subject: Subject,
    dtype: torch.dtype,
    cut: tuple[int, int],
    output_dir: Path,
    rows: helpers.Rows,
    **fields: Any,
) -> Taken:
    """Train one epoch over ``rows`` with weights that stand still, and keep what each step was given."""
    taken: list[Gradients] = []
    with helpers.library("etude") as lib:
        arguments = {
            "per_device_train_batch_size": cut[0],
            "gradient_accumulation_steps": cut[1],
            "num_train_epochs": 1,
            "max_grad_norm": 0.0,
            "learning_rate": 0.0,
            **subject.arguments,
            **fields,
        }
        trainer = subject.trainer(lib)(
            model=build_model(subject, dtype),
            args=helpers.training_arguments(lib, output_dir, **arguments),
            data_collator=Cast(subject.collator, dtype),
            train_dataset=rows,
            callbacks=[capture(lib, taken)],
            **subject.options,
        )
        trainer.train()
    return Taken(taken, [row["loss"] for row in trainer.state.log_history if "loss" in row])
