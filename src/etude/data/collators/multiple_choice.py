"""Several choices a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.data.collators.base import DataCollatorMixin, label_key, pad_features, tensors
from etude.errors import DataError


@dataclass
class DataCollatorForMultipleChoice(DataCollatorMixin):
    """Pads all choices of all samples to one length: tensors of shape [samples, choices, length].

    Attributes:
        tokenizer: what pads.
        padding: True or "longest": to the longest of the batch; "max_length": to `max_length`.
        max_length: length for "max_length".
        pad_to_multiple_of: rounds lengths up.
        return_tensors: "pt" or "np".
    """

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        return self._batch(examples, "pt")

    def numpy_call(self, examples: list[Any]) -> dict[str, Any]:
        return self._batch(examples, "np")

    def _batch(self, examples: list[Any], return_tensors: str) -> dict[str, Any]:
        name = label_key(examples)
        counts = {len(row["input_ids"]) for row in examples}
        if len(counts) > 1:
            raise DataError(f"All samples of a batch need as many choices, these have {sorted(counts)}.")
        (num_choices,) = counts
        choices = [
            {key: values[i] for key, values in row.items() if key != name}
            for row in examples
            for i in range(num_choices)
        ]
        padded = pad_features(self, choices, return_tensors)
        shape = (len(examples), num_choices, -1)
        batch = {key: values.reshape(shape) for key, values in padded.items()}
        if name in examples[0]:
            labels = np.array([int(row[name]) for row in examples], dtype=np.int64)
            batch["labels"] = tensors(labels, return_tensors)
        return batch
