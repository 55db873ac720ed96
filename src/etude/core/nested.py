"""Tensors and arrays inside dicts, lists, tuples and named tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Number
from typing import Any

import numpy as np
import torch

from etude.errors import DataError


def apply(function: Callable[[Any], Any], value: Any, other: Callable[[Any], Any] = lambda leaf: leaf) -> Any:
    """The same nesting with `function` applied to each leaf that is a tensor or an array, and `other` to all others."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(apply(function, item, other) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(apply(function, item, other) for item in value)
    if isinstance(value, Mapping):
        return type(value)({key: apply(function, item, other) for key, item in value.items()})  # type: ignore[call-arg]
    return other(value)


def detach(tensors: Any) -> Any:
    """The same nesting, cut off from the autograd graph."""
    return apply(lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, tensors)


def to_device(value: Any, device: torch.device) -> Any:
    """The same nesting with tensors on `device`; copies to an accelerator are not waited for."""
    if isinstance(value, torch.Tensor):
        return value if value.device == device else value.to(device, non_blocking=device.type != "cpu")
    if type(value) is dict:  # the usual batch
        return {key: to_device(item, device) for key, item in value.items()}
    return apply(lambda leaf: to_device(leaf, device) if isinstance(leaf, torch.Tensor) else leaf, value)


def to_numpy(tensors: Any) -> Any:
    """The same nesting with NumPy arrays on the host; bfloat16, which NumPy lacks, becomes float32."""

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        leaf = leaf.detach().cpu()
        return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()

    return apply(convert, tensors)


def without_objects(value: Any) -> Any:
    """The same nesting with None for what is neither tensor, array, number nor text: a decoder's cache, say."""
    return apply(lambda leaf: leaf, value, lambda leaf: leaf if isinstance(leaf, (Number, str)) else None)


def concatenate(parts: list[Any], padding: float = -100, lists_of_samples: bool = False) -> Any:
    """Joins arrays of equal nesting along the first dimension.

    Where they differ in the second dimension (padded sequences), the shorter ones are filled up with `padding`, as
    the reference does. Leaves without dimensions become arrays of length 1.

    Args:
        parts: one for each batch.
        padding: what sequences are filled up with.
        lists_of_samples: a list has one entry a sample (the boxes of each image, say), so that lists are strung
            together. Otherwise only those are whose length changes; others are joined entry by entry, like tuples.

    Raises:
        DataError: shapes, or lengths of tuples, that do not go together.
    """

    def join(items: list[Any]) -> Any:
        return concatenate(items, padding, lists_of_samples)

    first = parts[0]
    if first is None:
        return None
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(join(list(items)) for items in zip(*parts, strict=True)))
    if isinstance(first, (list, tuple)):
        lengths = {len(part) for part in parts}
        if isinstance(first, list) and (lists_of_samples or len(lengths) > 1):
            return [item for part in parts for item in part]
        if len(lengths) > 1:
            raise _cannot_join("tuples of lengths", sorted(lengths))
        return type(first)(join(list(items)) for items in zip(*parts, strict=True))
    if isinstance(first, Mapping):
        return type(first)({key: join([part[key] for part in parts]) for key in first})  # type: ignore[call-arg]
    return _joined_arrays([np.atleast_1d(part) for part in parts], padding)


def _joined_arrays(arrays: list[np.ndarray], padding: float) -> np.ndarray:
    if len({(array.ndim, *array.shape[2:]) for array in arrays}) > 1:
        raise _cannot_join("arrays of shapes", sorted({array.shape for array in arrays}))
    if len({array.shape[1] if array.ndim > 1 else 0 for array in arrays}) > 1:
        width = max(array.shape[1] for array in arrays)
        arrays = [pad_second_dimension(array, width, padding) for array in arrays]
    return np.concatenate(arrays, axis=0)


def _cannot_join(what: str, found: list[Any]) -> DataError:
    return DataError(
        f"Batches gave {what} {', '.join(map(str, found))}, which cannot be joined: set `eval_do_concat_batches=False` "
        "to get a list with an entry for each batch, or make them alike in `preprocess_logits_for_metrics`."
    )


def pad_second_dimension(array: np.ndarray, width: int, padding: float) -> np.ndarray:
    """`array` of shape [n, w, ...] filled up to [n, width, ...]."""
    if array.shape[1] == width:
        return array
    filled = np.full((array.shape[0], width, *array.shape[2:]), padding, dtype=array.dtype)
    filled[:, : array.shape[1]] = array
    return filled


def batch_size(tensors: Any) -> int | None:
    """Number of samples in a batch, or None where it cannot be told.

    Length of the first dimension of the first tensor or array found. In a batch with names, its own tensors come before
    those inside of its lists, and a list that holds some has one entry a sample.
    """
    if isinstance(tensors, (torch.Tensor, np.ndarray)):
        return int(tensors.shape[0]) if tensors.ndim > 0 else None
    if isinstance(tensors, Mapping):
        lists = [item for item in tensors.values() if isinstance(item, list) and batch_size(item) is not None]
        found = [batch_size(item) for item in tensors.values() if not isinstance(item, list)]
        found += map(len, lists)
    else:
        found = [batch_size(item) for item in tensors] if isinstance(tensors, (list, tuple)) else []
    return next((size for size in found if size is not None), None)
