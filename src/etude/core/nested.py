"""Tensors and arrays inside dicts, lists, tuples and named tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


def apply(function: Callable[[Any], Any], value: Any) -> Any:
    """The same nesting with `function` applied to each leaf that is a tensor or an array."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(apply(function, item) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(apply(function, item) for item in value)
    if isinstance(value, Mapping):
        return type(value)({key: apply(function, item) for key, item in value.items()})  # type: ignore[call-arg]
    return value


def detach(value: Any) -> Any:
    """The same nesting, cut off from the autograd graph."""
    return apply(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, value)


def to_device(value: Any, device: torch.device) -> Any:
    """The same nesting with tensors on `device`; copies to an accelerator are not waited for."""
    if isinstance(value, torch.Tensor):
        return value if value.device == device else value.to(device, non_blocking=device.type != "cpu")
    if type(value) is dict:  # the usual batch
        return {key: to_device(item, device) for key, item in value.items()}
    return apply(lambda leaf: to_device(leaf, device) if isinstance(leaf, torch.Tensor) else leaf, value)


def to_numpy(value: Any) -> Any:
    """The same nesting with NumPy arrays on the host; bfloat16, which NumPy lacks, becomes float32."""

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        leaf = leaf.detach().cpu()
        return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()

    return apply(convert, value)


def concatenate(parts: list[Any], padding: float = -100) -> Any:
    """Joins arrays of equal nesting along the first dimension.

    Where they differ in the second dimension (padded sequences), the shorter ones are filled up with `padding`, as
    the reference does. Leaves without dimensions become arrays of length 1.
    """
    first = parts[0]
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(concatenate(list(items), padding) for items in zip(*parts, strict=True)))
    if isinstance(first, (list, tuple)):
        return type(first)(concatenate([part[i] for part in parts], padding) for i in range(len(first)))
    if isinstance(first, Mapping):
        return type(first)({key: concatenate([p[key] for p in parts], padding) for key in first})  # type: ignore[call-arg]
    arrays = [np.atleast_1d(part) for part in parts]
    if len({array.shape[1] if array.ndim > 1 else 0 for array in arrays}) > 1:
        width = max(array.shape[1] for array in arrays)
        arrays = [pad_second_dimension(array, width, padding) for array in arrays]
    return np.concatenate(arrays, axis=0)


def pad_second_dimension(array: np.ndarray, width: int, padding: float) -> np.ndarray:
    """`array` of shape [n, w, ...] filled up to [n, width, ...]."""
    if array.shape[1] == width:
        return array
    filled = np.full((array.shape[0], width, *array.shape[2:]), padding, dtype=array.dtype)
    filled[:, : array.shape[1]] = array
    return filled


def batch_size(value: Any) -> int | None:
    """Length of the first dimension of the first tensor or array found, or None."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return int(value.shape[0]) if value.ndim > 0 else None
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    for item in items:
        if (found := batch_size(item)) is not None:
            return found
    return None
