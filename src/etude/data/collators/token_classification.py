"""A label for each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from etude.data.collators.base import DataCollatorMixin, filled, label_key, pad_features, tensors, without


@dataclass
class DataCollatorForTokenClassification(DataCollatorMixin):
    """Pads the inputs with the tokenizer and the labels, one for each token, to the same length.

    Samples keep the name of their labels: "label" or "labels". Without labels the batch is just padded.

    Attributes:
        tokenizer: what pads; its `padding_side` is that of the labels too.
        padding: True or "longest": to the longest of the batch; "max_length": to `max_length`.
        max_length: length for "max_length".
        pad_to_multiple_of: rounds lengths up.
        label_pad_token_id: the label of padding; PyTorch's losses leave out -100.
        return_tensors: "pt" or "np".
    """

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = -100
    return_tensors: str = "pt"

    def torch_call(self, features: list[Any]) -> Any:
        return self._batch(features, "pt")

    def numpy_call(self, features: list[Any]) -> Any:
        return self._batch(features, "np")

    def _batch(self, features: list[Any], return_tensors: str) -> Any:
        name = label_key(features)
        batch = pad_features(self, without(features, name), return_tensors)
        if name in features[0]:
            width, side = batch["input_ids"].shape[1], self.tokenizer.padding_side
            labels = filled([row[name] for row in features], width, self.label_pad_token_id, side)
            batch[name] = tensors(labels, return_tensors)
        return batch
