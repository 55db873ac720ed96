"""Stacking samples of equal shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from etude.data.collators.base import chosen
from etude.errors import DataError

LABEL_KEYS = ("label", "label_ids")


def default_data_collator(features: list[Any], return_tensors: str = "pt") -> dict[str, Any]:
    """Stacks the samples' values key by key.

    The first sample says which keys there are. `label` (a number) and `label_ids` (a list) become `labels`; text and
    None are left out.

    Args:
        features: samples: mappings, or objects whose attributes are the values.
        return_tensors: "pt" for PyTorch tensors, "np" for NumPy arrays.

    Raises:
        ConfigurationError: `return_tensors` is something else.
        DataError: lists of one key differ in length.
    """
    stack: Callable[..., Any] = _tensor if chosen(return_tensors) == "pt" else _array
    rows = features if isinstance(features[0], Mapping) else [vars(row) for row in features]
    first = rows[0]
    batch: dict[str, Any] = {}
    if first.get("label") is not None:
        batch["labels"] = stack([row["label"] for row in rows], _label_kind(first["label"]))
    elif first.get("label_ids") is not None:
        values = [row["label_ids"] for row in rows]
        batch["labels"] = stack(values, _list_kind(first["label_ids"]))
    for key, value in first.items():
        if key in LABEL_KEYS or value is None or isinstance(value, str):
            continue
        try:
            batch[key] = stack([row[key] for row in rows])
        except (ValueError, RuntimeError) as error:  # of NumPy, of PyTorch
            raise DataError(
                f"The samples' values of {key!r} cannot be stacked ({error}): give them equal shapes, or use a data "
                "collator that pads."
            ) from error
    return batch


@dataclass
class DefaultDataCollator:
    """`default_data_collator` as an object.

    Attributes:
        return_tensors: "pt" for PyTorch tensors, "np" for NumPy arrays.
    """

    return_tensors: str = "pt"

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> dict[str, Any]:
        return default_data_collator(features, return_tensors or self.return_tensors)


def _label_kind(label: Any) -> np.dtype[Any]:
    """Whole numbers are classes; anything else is a target of a regression, or of several classes at once."""
    if isinstance(label, (torch.Tensor, np.ndarray)):
        label = label.reshape(-1)[0].item()
    return np.dtype(np.int64 if isinstance(label, (int, np.integer, np.bool_)) else np.float32)


def _list_kind(labels: Any) -> np.dtype[Any] | None:
    if isinstance(labels, torch.Tensor):
        return None
    return np.dtype(np.int64 if len(labels) and isinstance(labels[0], (int, np.integer)) else np.float32)


def _tensor(values: list[Any], kind: np.dtype[Any] | None = None) -> torch.Tensor:
    if isinstance(values[0], torch.Tensor):
        stacked = torch.stack(values)
        return stacked if kind is None else stacked.to(_TORCH[kind])
    if kind is not None:
        return torch.from_numpy(np.array(values, dtype=kind))
    if isinstance(values[0], np.ndarray):
        return torch.from_numpy(np.stack(values))
    if not _is_plain(values[0]):
        return torch.tensor(values)
    # by way of NumPy, which reads nested lists several times as fast
    array = np.array(values)
    if array.dtype == np.float64:
        return torch.from_numpy(array).to(torch.get_default_dtype())
    return torch.from_numpy(array) if array.dtype in (np.int64, np.bool_) else torch.tensor(values)


def _array(values: list[Any], kind: np.dtype[Any] | None = None) -> np.ndarray:
    if isinstance(values[0], (np.ndarray, torch.Tensor)):
        stacked = np.stack([np.asarray(value) for value in values])
        return stacked if kind is None else stacked.astype(kind)
    return np.array(values, dtype=kind)


def _is_plain(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return type(value) in (int, float, bool)  # NumPy's numbers have formats of their own


_TORCH = {np.dtype(np.int64): torch.int64, np.dtype(np.float32): torch.float32}
