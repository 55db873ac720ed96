"""What several processes hold, brought together: tensors in any nesting, with the promises of accelerate's functions.

For one process every function is the identity, or a copy where the result is the caller's to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from etude.core import nested
from etude.strategies.base import Strategy


def gather(value: Any, strategy: Strategy, counts_here: bool = True) -> Any:
    """Tensors of all processes joined along their first dimension, in the order of the ranks.

    Processes may hold different numbers of rows. A tensor without dimensions becomes one row.

    Args:
        value: tensors in any nesting, the same on every process.
        counts_here: whether this process's rows are part of the result; every process takes part in the exchange.
    """
    if strategy.world.size == 1:
        return value
    leaves: list[torch.Tensor] = []
    nested.apply(leaves.append, value)
    rows = [leaf.shape[0] if leaf.ndim else 1 for leaf in leaves]
    everywhere = strategy.gather_objects(rows if counts_here else [0] * len(rows))
    joined = iter(
        [_gather_one(leaf, [counts[i] for counts in everywhere], strategy) for i, leaf in enumerate(leaves)]
    )
    return nested.apply(lambda _: next(joined), value)


def _gather_one(tensor: torch.Tensor, rows: list[int], strategy: Strategy) -> torch.Tensor:
    tensor = tensor.detach().reshape(1) if tensor.ndim == 0 else tensor.detach()
    tensor = tensor.to(strategy.device).contiguous()
    tensor = _lengthened(tensor, 0, max(rows), 0, False)[: max(rows)].contiguous()
    parts = [torch.empty_like(tensor) for _ in rows]
    dist.all_gather(parts, tensor)
    return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])


def pad(value: Any, strategy: Strategy, dim: int, filling: float, first: bool) -> Any:
    """Tensors filled up in dimension `dim` to the longest of all processes; `first` fills at the beginning."""
    if strategy.world.size == 1:
        return value
    leaves: list[torch.Tensor] = []
    nested.apply(leaves.append, value)
    sizes = strategy.gather_objects([leaf.shape[dim] if leaf.ndim > dim else 0 for leaf in leaves])
    longest = iter([max(column) for column in zip(*sizes, strict=True)])
    return nested.apply(
        lambda leaf: leaf if leaf.ndim <= dim else _lengthened(leaf, dim, next(longest), filling, first),
        value,
    )


def reduce(value: Any, strategy: Strategy, reduction: str, scale: float) -> Any:
    """Tensors summed ("sum") or averaged ("mean") over the processes, as copies; `scale` multiplies a mean."""
    copies = nested.apply(lambda leaf: leaf.detach().clone(), value)
    if strategy.world.size == 1:
        return copies
    factor = scale / strategy.world.size if reduction == "mean" else 1.0
    return nested.apply(lambda leaf: strategy.sum(leaf.to(strategy.device)) * factor, copies)


def gather_items(values: Any, strategy: Strategy, counts_here: bool = True) -> Any:
    """Python objects of all processes: lists are joined, anything else becomes a list by rank."""
    if strategy.world.size == 1:
        return values
    everywhere = strategy.gather_objects((values, counts_here))
    kept = [value for value, counts in everywhere if counts]
    return [item for value in kept for item in value] if isinstance(values, (list, tuple)) else kept


def only_tensors(value: Any) -> bool:
    """Whether there is nothing but tensors in the nesting."""
    if isinstance(value, Mapping):
        return all(only_tensors(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(only_tensors(item) for item in value)
    return isinstance(value, torch.Tensor)


def _lengthened(tensor: torch.Tensor, dim: int, size: int, filling: float, first: bool) -> torch.Tensor:
    missing = size - tensor.shape[dim]
    if missing <= 0:
        return tensor
    shape = [*tensor.shape[:dim], missing, *tensor.shape[dim + 1 :]]
    more = tensor.new_full(shape, filling)
    return torch.cat([more, tensor] if first else [tensor, more], dim=dim)
