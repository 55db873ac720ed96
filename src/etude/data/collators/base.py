"""What collators have in common: the choice between PyTorch and NumPy, and rows of unequal length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NewType

import numpy as np
import torch

from etude.errors import ConfigurationError, DataError

DataCollator = NewType("DataCollator", Callable[[list[Any]], dict[str, Any]])  # type: ignore[valid-newtype]


class DataCollatorMixin:
    """Calls `torch_call` or `numpy_call`, whichever `return_tensors` asks for. Subclasses define one or both."""

    return_tensors: str = "pt"

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> Any:
        """The batch of these samples.

        Args:
            features: the samples.
            return_tensors: "pt" or "np"; the collator's own if not given.

        Raises:
            ConfigurationError: it is neither.
        """
        if chosen(return_tensors or self.return_tensors) == "pt":
            return self.torch_call(features)
        return self.numpy_call(features)

    def torch_call(self, features: list[Any]) -> Any:
        """The batch as PyTorch tensors."""
        raise NotImplementedError(f"{type(self).__name__} does not make PyTorch tensors.")

    def numpy_call(self, features: list[Any]) -> Any:
        """The batch as NumPy arrays."""
        raise NotImplementedError(f"{type(self).__name__} does not make NumPy arrays.")


def chosen(return_tensors: str) -> str:
    """`return_tensors`, if it is "pt" or "np".

    Raises:
        ConfigurationError: it is neither.
    """
    if return_tensors not in ("pt", "np"):
        raise ConfigurationError(f"`return_tensors` is 'pt' or 'np', not {return_tensors!r}.")
    return return_tensors


def tensors(array: np.ndarray, return_tensors: str) -> Any:
    """`array` itself, or a tensor on the same memory."""
    return torch.from_numpy(array) if return_tensors == "pt" else array


def pad_features(collator: Any, features: list[Any], return_tensors: str) -> Any:
    """The samples padded by the collator's tokenizer with the collator's options, without its advice.

    A tokenizer advises to tokenize and pad in one call, which a collator cannot do.
    """
    options = {
        "padding": collator.padding,
        "max_length": collator.max_length,
        "pad_to_multiple_of": collator.pad_to_multiple_of,
        "return_tensors": return_tensors,
    }
    return quietly_pad(collator.tokenizer, features, **options)


def quietly_pad(tokenizer: Any, features: Any, **options: Any) -> Any:
    """`tokenizer.pad` without its advice."""
    told = getattr(tokenizer, "deprecation_warnings", None)
    if not isinstance(told, dict):
        return tokenizer.pad(features, **options)
    key = "Asking-to-pad-a-fast-tokenizer"
    before = told.get(key, False)
    told[key] = True
    try:
        return tokenizer.pad(features, **options)
    finally:
        told[key] = before


def without(features: Sequence[Any], *names: str) -> list[dict[str, Any]]:
    """The samples without these keys; the samples themselves keep them."""
    return [{key: value for key, value in row.items() if key not in names} for row in features]


def label_key(features: Sequence[Any]) -> str:
    """The name that labels go by in these samples."""
    return "label" if "label" in features[0] else "labels"


def rounded_up(length: int, multiple: int | None) -> int:
    """The next multiple, or `length` itself where there is none to keep to."""
    return length if not multiple else -(-length // multiple) * multiple


def filled(rows: Sequence[Any], width: int, padding: int, side: str) -> np.ndarray:
    """Rows of whole numbers as one array of shape [rows, width], filled up with `padding`.

    Args:
        rows: lists, arrays or tensors of at most `width` numbers each.
        side: which side of a row is filled: "right" or "left".

    Raises:
        DataError: a row is longer than that.
    """
    result = np.full((len(rows), width), padding, dtype=np.int64)
    for target, row in zip(result, rows, strict=True):
        length = len(row)
        if length > width:
            raise DataError(
                f"A row of labels has {length} entries where the inputs have {width}: give one for each input."
            )
        if length:
            target[slice(length) if side == "right" else slice(width - length, width)] = row
    return result


def joined_ids(examples: Sequence[Any], tokenizer: Any, multiple: int | None = None) -> np.ndarray:
    """Token ids of unequal length as one array of shape [examples, length], padded with the pad token.

    Raises:
        DataError: there is something to pad, and the tokenizer has no pad token.
    """
    lengths = {len(row) for row in examples}
    width = rounded_up(max(lengths), multiple)
    if lengths == {width}:
        return filled(examples, width, 0, "right")
    if tokenizer.pad_token is None:
        raise DataError(
            f"The samples differ in length, and {type(tokenizer).__name__} does not have a pad token to fill them up "
            "with: set `tokenizer.pad_token`, for example to its end-of-text token."
        )
    return filled(examples, width, tokenizer.pad_token_id, tokenizer.padding_side)


def token_ids(examples: Sequence[Any]) -> Sequence[Any]:
    """The token ids of samples that are dictionaries, or lists of ids themselves."""
    return [row["input_ids"] for row in examples] if isinstance(examples[0], Mapping) else examples


def special_tokens(tokenizer: Any, ids: np.ndarray) -> np.ndarray:
    """Where the special tokens are: truth values in the shape of `ids`."""
    rows = [tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True) for row in ids.tolist()]
    return np.asarray(rows, dtype=bool)
