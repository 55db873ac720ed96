"""Running a model over a data set and keeping what metrics need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from etude.core import nested
from etude.core.outputs import EvalLoopOutput, EvalPrediction
from etude.data.epoch import set_epoch as _set_epoch
from etude.data.loader import num_samples
from etude.errors import DataError, MetricError
from etude.loops.batch import Batch
from etude.loops.batchwise import computed_by_batch
from etude.loops.lockstep import in_step
from etude.strategies.base import Strategy


@dataclass(frozen=True)
class EvaluationSettings:
    """What the evaluation loop has to know of the arguments.

    Attributes:
        loss_only: keep only losses.
        join_batches: arrays over all samples; otherwise lists with one entry a batch.
        keep: more for the metrics: "inputs", "loss".
        main_input: name of the model's main input.
        ignore_keys: outputs that are left out.
        by_batch: compute metrics batch by batch.
        keep_outputs: return outputs and labels, also where metrics are computed batch by batch.
    """

    loss_only: bool
    join_batches: bool
    keep: tuple[str, ...]
    main_input: str
    ignore_keys: list[str] | None
    by_batch: bool = False
    keep_outputs: bool = True


@dataclass
class Collected:
    """What is kept of all batches, in the order of the data set."""

    batches: list[Batch] = field(default_factory=list)

    def joined(self, name: str, join: bool) -> Any:
        """One attribute over all batches, joined or as a list; None where no batch has it."""
        parts = [getattr(batch, name) for batch in self.batches]
        if not parts or any(part is None for part in parts):
            return None
        # What the collator left in lists (boxes, masks) has one entry a sample; a model's lists are like its tuples.
        return nested.concatenate(parts, lists_of_samples=name != "predictions") if join else parts

    def losses(self, join: bool = True) -> Any:
        """The loss of each sample's batch, shape [samples], or a list by batch; None where there are no labels."""
        if not self.batches or any(batch.loss is None for batch in self.batches):
            return None
        by_batch = [np.full(batch.size, batch.loss, dtype=np.float64) for batch in self.batches]
        return np.concatenate(by_batch) if join else by_batch


def evaluate(
    trainer: Any,
    model: nn.Module,
    loader: Any,
    strategy: Strategy,
    settings: EvaluationSettings,
    compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None,
    prefix: str,
    watched: Callable[[Iterator[Any]], Iterator[Any]] = iter,
) -> EvalLoopOutput:
    """Evaluates `model` on `loader`.

    Every process looks at its share of the batches; what they keep is gathered, so that all have the same metrics as a
    single process would.

    Args:
        trainer: whose `prediction_step` and callbacks are called.
        prefix: put before every metric's name.
        watched: what the batches pass through; it may break off the evaluation.
    """
    _set_epoch(loader, 0)
    looked_at = _all_batches(trainer, model, watched(in_step(loader, strategy)), strategy, settings)
    metrics: dict[str, Any] = {}
    if settings.by_batch and compute_metrics is not None:
        metrics, own = computed_by_batch(
            looked_at, strategy, compute_metrics, settings.keep, settings.keep_outputs
        )
    else:
        own = list(looked_at)
    collected = Collected(interleave(strategy.gather_objects(own)))
    predictions = collected.joined("predictions", settings.join_batches)
    labels = collected.joined("labels", settings.join_batches)
    losses = collected.losses()
    if (
        compute_metrics is not None
        and not settings.by_batch
        and predictions is not None
        and labels is not None
    ):
        extras = (
            {"inputs": collected.joined("inputs", settings.join_batches)} if "inputs" in settings.keep else {}
        )
        if "loss" in settings.keep:
            extras["losses"] = collected.losses(settings.join_batches)
        metrics = as_metrics(compute_metrics(EvalPrediction(predictions, labels, **extras)))
    if losses is not None:
        metrics[f"{prefix}_loss"] = float(losses.mean())
    seen = sum(batch.size for batch in collected.batches)
    return EvalLoopOutput(predictions, labels, with_prefix(metrics, prefix), _size(loader, seen, strategy))


def _all_batches(
    trainer: Any,
    model: nn.Module,
    batches: Iterator[tuple[Any, bool]],
    strategy: Strategy,
    settings: EvaluationSettings,
) -> Iterator[Batch]:
    for inputs, only_in_step in batches:
        strategy.repeats = only_in_step
        try:
            batch = _look_at(trainer, model, inputs, settings)
        finally:
            strategy.repeats = False
        if only_in_step:
            continue
        yield batch
        trainer.control = trainer.callback_handler.on_prediction_step(
            trainer.args, trainer.state, trainer.control
        )


def _look_at(trainer: Any, model: nn.Module, inputs: Any, settings: EvaluationSettings) -> Batch:
    size = nested.batch_size(inputs) or 1
    loss, logits, labels = trainer.prediction_step(
        model, inputs, settings.loss_only, ignore_keys=settings.ignore_keys
    )
    if logits is not None and trainer.preprocess_logits_for_metrics is not None:
        logits = trainer.preprocess_logits_for_metrics(logits, labels)
    mean = None if loss is None else loss.mean().item()
    if settings.by_batch:  # metrics that are computed at once get tensors, and all of the inputs
        return Batch(size, mean, logits, labels, inputs if "inputs" in settings.keep else None)
    kept = (
        inputs[settings.main_input] if "inputs" in settings.keep and settings.main_input in inputs else None
    )
    predictions = nested.to_numpy(nested.without_objects(logits))
    return Batch(size, mean, predictions, nested.to_numpy(labels), nested.to_numpy(kept))


def interleave(shares: list[list[Any]]) -> list[Any]:
    """The batches of all processes in their order: the first of each, the second of each, and so on."""
    longest = max(len(share) for share in shares)
    return [share[i] for i in range(longest) for share in shares if i < len(share)]


def with_prefix(metrics: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Metrics as plain numbers, each name with `prefix_` before it."""
    named = {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": v for name, v in metrics.items()}
    return {name: value.item() if _is_scalar(value) else value for name, value in named.items()}


def as_metrics(returned: Any) -> dict[str, Any]:
    """What `compute_metrics` has returned.

    Raises:
        DataError: it is no dictionary.
    """
    if not isinstance(returned, Mapping):
        raise DataError(
            f"`compute_metrics` must return a dictionary of numbers, it returned a {type(returned).__name__}."
        )
    return dict(returned)


def find_metric(metrics: dict[str, float], name: str) -> float:
    """The metric `name`, with or without its "eval_".

    Raises:
        MetricError: it is not there; lists those that are.
    """
    full = name if name.startswith("eval_") else f"eval_{name}"
    if full not in metrics:
        raise MetricError(
            f"`metric_for_best_model='{name}'` is not among the metrics of the evaluation: "
            f"{', '.join(sorted(metrics))}."
        )
    return metrics[full]


def _is_scalar(value: Any) -> bool:
    """Whether it is a tensor or array of one element, rather than a number or a longer array."""
    return isinstance(value, (torch.Tensor, np.ndarray, np.generic)) and value.reshape(-1).shape[0] == 1


def _size(loader: Any, seen: int, strategy: Strategy) -> int:
    total = num_samples(loader)
    return seen if total is None else total
