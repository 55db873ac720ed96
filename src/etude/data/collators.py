"""From a list of samples to a batch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from etude.errors import ConfigurationError

LABEL_KEYS = ("label", "label_ids")


def default_data_collator(features: list[Any], return_tensors: str = "pt") -> dict[str, Any]:
    """Stacks the samples' values key by key.

    The first sample says which keys there are. `label` (a number) and `label_ids` (a list) become `labels`; text and
    None are left out.

    Args:
        features: samples: mappings, or objects whose attributes are the values.
        return_tensors: "pt" for PyTorch tensors, "np" for NumPy arrays.
    """
    if return_tensors not in ("pt", "np"):
        raise ConfigurationError(f"`return_tensors` is 'pt' or 'np', not {return_tensors!r}.")
    rows = [row if isinstance(row, Mapping) else vars(row) for row in features]
    batch: dict[str, Any] = {}
    for key, value in rows[0].items():
        shadowed = key == "label_ids" and rows[0].get("label") is not None
        if value is None or isinstance(value, str) or shadowed:
            continue
        target = "labels" if key in LABEL_KEYS else key
        dtype = _label_dtype(key, value) if key in LABEL_KEYS else None
        values = [row[key] for row in rows]
        batch[target] = _stack(values, dtype) if return_tensors == "pt" else _stack_arrays(values, dtype)
    return batch


def _label_dtype(key: str, value: Any) -> torch.dtype:
    if isinstance(value, torch.Tensor):
        return torch.int64 if not value.is_floating_point() else torch.float32
    if key == "label" and np.ndim(value) > 0:  # several classes at once, for a binary cross-entropy
        return torch.float32
    kind = np.asarray(value).dtype
    return torch.int64 if np.issubdtype(kind, np.integer) or kind == np.bool_ else torch.float32


def _stack(values: list[Any], dtype: torch.dtype | None) -> torch.Tensor:
    if isinstance(values[0], torch.Tensor):
        stacked = torch.stack(values)
        return stacked if dtype is None else stacked.to(dtype)
    if isinstance(values[0], np.ndarray):
        stacked = torch.from_numpy(np.stack(values))
        return stacked if dtype is None else stacked.to(dtype)
    return torch.tensor(values, dtype=dtype)


def _stack_arrays(values: list[Any], dtype: torch.dtype | None) -> np.ndarray:
    stacked = np.stack([np.asarray(value) for value in values])
    if dtype is None:
        return stacked
    return stacked.astype(np.int64 if dtype == torch.int64 else np.float32)


@dataclass
class DefaultDataCollator:
    """`default_data_collator` as an object.

    Attributes:
        return_tensors: "pt" for PyTorch tensors, "np" for NumPy arrays.
    """

    return_tensors: str = "pt"

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> dict[str, Any]:
        return default_data_collator(features, return_tensors or self.return_tensors)


@dataclass
class DataCollatorWithPadding:
    """Pads the samples of a batch with a transformers tokenizer (or anything with its `pad` method).

    Attributes:
        tokenizer: what pads.
        padding: True or "longest": to the longest of the batch; "max_length": to `max_length`; False: not at all.
        max_length: length for "max_length".
        pad_to_multiple_of: rounds lengths up, which tensor cores like.
        return_tensors: "pt" or "np".
    """

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: list[Any]) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fast tokenizer.*__call__.*")
            batch = quietly_pad(
                self.tokenizer,
                features,
                padding=self.padding,
                max_length=self.max_length,
                pad_to_multiple_of=self.pad_to_multiple_of,
                return_tensors=self.return_tensors,
            )
        for key in LABEL_KEYS:
            if key in batch:
                batch["labels"] = batch.pop(key)
        return batch


def quietly_pad(tokenizer: Any, features: Any, **options: Any) -> Any:
    """`tokenizer.pad` without its advice to tokenize and pad in one call, which a collator cannot follow."""
    seen = getattr(tokenizer, "deprecation_warnings", None)
    if not isinstance(seen, dict):
        return tokenizer.pad(features, **options)
    key = "Asking-to-pad-a-fast-tokenizer"
    before = seen.get(key, False)
    seen[key] = True
    try:
        return tokenizer.pad(features, **options)
    finally:
        seen[key] = before
