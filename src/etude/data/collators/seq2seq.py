"""An input sequence and a sequence of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from etude.data.collators.base import (
    chosen,
    filled,
    label_key,
    pad_features,
    rounded_up,
    tensors,
    without,
)
from etude.errors import DataError


@dataclass
class DataCollatorForSeq2Seq:
    """Pads the inputs with the tokenizer and the labels to a length of their own.

    Attributes:
        tokenizer: what pads; its `padding_side` is that of the labels too.
        model: where it has `prepare_decoder_input_ids_from_labels`, its result is added as `decoder_input_ids`.
        padding: True or "longest": inputs and labels to the longest of the batch; "max_length": to `max_length`;
            False: not at all.
        max_length: length for "max_length".
        pad_to_multiple_of: rounds lengths up, also that of the labels.
        label_pad_token_id: the label of padding; PyTorch's losses leave out -100.
        return_tensors: "pt" or "np".
    """

    tokenizer: Any
    model: Any = None
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = -100
    return_tensors: str = "pt"

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> Any:
        return_tensors = chosen(return_tensors or self.return_tensors)
        name = label_key(features)
        batch = pad_features(self, without(features, name), return_tensors)
        rows = [row.get(name) for row in features]
        if all(row is None for row in rows):
            batch["labels"] = None
            return batch
        labels = filled(rows, self._width(rows), self.label_pad_token_id, self.tokenizer.padding_side)
        batch["labels"] = tensors(labels, return_tensors)
        prepare = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        if prepare is not None:
            ids = prepare(labels=torch.from_numpy(labels))
            batch["decoder_input_ids"] = ids if return_tensors == "pt" else np.asarray(ids)
        return batch

    def _width(self, rows: list[Any]) -> int:
        lengths = {len(row) for row in rows}
        if self.padding is False or self.padding == "do_not_pad":
            if len(lengths) > 1:
                raise DataError(
                    f"The labels differ in length ({min(lengths)} to {max(lengths)}) and `padding=False` leaves them "
                    "so: set `padding=True`."
                )
            return max(lengths)
        asked = self.max_length if self.padding == "max_length" and self.max_length is not None else 0
        return rounded_up(max(asked, *lengths), self.pad_to_multiple_of)
