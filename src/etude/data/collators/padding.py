"""Padding with a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from etude.data.collators.base import chosen, pad_features
from etude.data.collators.default import LABEL_KEYS


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

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> Any:
        batch = pad_features(self, features, chosen(return_tensors or self.return_tensors))
        for key in LABEL_KEYS:
            if key in batch:
                batch["labels"] = batch.pop(key)
        return batch
