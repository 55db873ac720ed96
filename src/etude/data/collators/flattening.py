"""Batches without padding: all samples in one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from etude.data.collators.base import chosen, tensors
from etude.data.collators.default import DefaultDataCollator


@dataclass
class DataCollatorWithFlattening(DefaultDataCollator):
    """Puts all samples of a batch into one row of shape [1, tokens], for attention that keeps them apart.

    Takes `input_ids` and, where they are given, `labels` of each sample, and nothing else; labels are the inputs
    otherwise. Position ids begin anew with each sample.

    Attributes:
        return_position_ids: add `position_ids`.
        separator_id: the label of each sample's first token, so that nothing is predicted across samples.
        return_flash_attn_kwargs: add `cu_seq_lens_q`, `cu_seq_lens_k`, `max_length_q`, `max_length_k`, by which
            FlashAttention keeps samples apart.
        return_seq_idx: add `seq_idx`, the number of the sample of each token.
        position_ids_start: position of each sample's first token: 0, or `padding_idx + 1` for models like RoBERTa.
    """

    _: KW_ONLY
    return_position_ids: bool = True
    separator_id: int = -100
    return_flash_attn_kwargs: bool = False
    return_seq_idx: bool = False
    position_ids_start: int = 0

    def __call__(
        self, features: list[Any], return_tensors: str | None = None, separator_id: int | None = None
    ) -> dict[str, Any]:
        return_tensors = chosen(return_tensors or self.return_tensors)
        ids = [_row(sample["input_ids"]) for sample in features]
        lengths = np.array([len(row) for row in ids])
        ends = np.cumsum(lengths)
        starts = ends - lengths
        labels = np.concatenate(
            [_row(sample["labels"]) for sample in features] if "labels" in features[0] else ids
        )
        labels[starts[lengths > 0]] = self.separator_id if separator_id is None else separator_id
        row: dict[str, np.ndarray] = {"input_ids": np.concatenate(ids), "labels": labels}
        if self.return_position_ids:
            row["position_ids"] = np.arange(ends[-1]) - np.repeat(starts, lengths) + self.position_ids_start
        if self.return_seq_idx:
            row["seq_idx"] = np.repeat(np.arange(len(ids), dtype=np.int32), lengths)
        batch: dict[str, Any] = {name: tensors(values[None], return_tensors) for name, values in row.items()}
        return batch | (_boundaries(ends, lengths, return_tensors) if self.return_flash_attn_kwargs else {})


def _row(values: Sequence[int]) -> np.ndarray:
    return np.asarray(values, dtype=np.int64)


def _boundaries(ends: np.ndarray, lengths: np.ndarray, return_tensors: str) -> dict[str, Any]:
    """Where samples begin and end, for queries and for keys, and the longest of them."""
    batch: dict[str, Any] = {}
    for side in ("q", "k"):
        batch[f"cu_seq_lens_{side}"] = tensors(np.concatenate([[0], ends]).astype(np.int32), return_tensors)
        batch[f"max_length_{side}"] = int(lengths.max())
    return batch
