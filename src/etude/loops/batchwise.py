"""Metrics computed batch by batch (`batch_eval_metrics`): nothing but losses is kept of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch

from etude.core import nested
from etude.core.outputs import EvalPrediction
from etude.loops.batch import Batch
from etude.strategies.base import Strategy


def computed_by_batch(
    batches: Iterable[Batch],
    strategy: Strategy,
    compute_metrics: Callable[..., dict[str, Any]],
    keep: tuple[str, ...],
    keep_outputs: bool,
) -> tuple[dict[str, Any], list[Batch]]:
    """Calls `compute_metrics(prediction, compute_result=...)` for each batch, with True for the last.

    Every process calls it with the batches of all, so that all get the same result.

    Args:
        batches: this process's, with tensors.
        keep: what else `compute_metrics` gets: "inputs", "loss".
        keep_outputs: also return outputs and labels, as `predict` needs them.

    Returns:
        The result of the last call, and what is kept of this process's batches.
    """
    kept: list[Batch] = []

    def own() -> Iterator[Batch]:
        for batch in batches:
            kept.append(_on_host(batch) if keep_outputs else Batch(batch.size, batch.loss, None, None, None))
            yield batch

    metrics: dict[str, Any] = {}
    for batch, is_last in _with_last(_of_all_processes(own(), strategy)):
        if batch.predictions is None or batch.labels is None:
            continue
        extras: dict[str, Any] = {"inputs": batch.inputs} if "inputs" in keep else {}
        if "loss" in keep and batch.loss is not None:
            extras["losses"] = torch.full((batch.size,), batch.loss)
        prediction = EvalPrediction(batch.predictions, batch.labels, **extras)
        metrics = compute_metrics(prediction, compute_result=is_last)
    return dict(metrics or {}), kept


def _on_host(batch: Batch) -> Batch:
    return replace(
        batch,
        predictions=nested.to_numpy(batch.predictions),
        labels=nested.to_numpy(batch.labels),
        inputs=None,
    )


def _of_all_processes(own: Iterator[Batch], strategy: Strategy) -> Iterator[Batch]:
    """One batch made of those that all processes have at the same time."""
    if strategy.world.size == 1:
        yield from own
        return
    cpu = torch.device("cpu")
    while True:
        batch = next(own, None)
        if batch is not None:
            batch = replace(
                batch,
                predictions=nested.to_device(batch.predictions, cpu),
                labels=nested.to_device(batch.labels, cpu),
                inputs=nested.to_device(batch.inputs, cpu),
            )
        shares = [share for share in strategy.gather_objects(batch) if share is not None]
        if not shares:
            return
        yield _merged(shares)


def _merged(shares: list[Batch]) -> Batch:
    size = sum(share.size for share in shares)
    losses = [(share.loss, share.size) for share in shares if share.loss is not None]
    return Batch(
        size=size,
        loss=sum(loss * count for loss, count in losses) / size if losses else None,
        predictions=_joined([share.predictions for share in shares]),
        labels=_joined([share.labels for share in shares], lists_of_samples=True),
        inputs=_joined([share.inputs for share in shares], lists_of_samples=True),
    )


def _joined(parts: list[Any], lists_of_samples: bool = False) -> Any:
    if any(part is None for part in parts):
        return None
    arrays = [nested.to_numpy(part) for part in parts]
    return nested.apply(torch.as_tensor, nested.concatenate(arrays, lists_of_samples=lists_of_samples))


def _with_last(batches: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    current = next(batches, None)
    while current is not None:
        following = next(batches, None)
        yield current, following is None
        current = following
