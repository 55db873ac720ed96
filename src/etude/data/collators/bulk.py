"""The batches of known collators, made of columns rather than of samples: no value becomes a Python object."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from etude.data.collators.base import rounded_up
from etude.data.collators.default import LABEL_KEYS, DefaultDataCollator, default_data_collator
from etude.data.collators.padding import DataCollatorWithPadding
from etude.data.collators.seq2seq import DataCollatorForSeq2Seq
from etude.data.collators.token_classification import DataCollatorForTokenClassification

# A column of a batch: one number a sample, or one array of whole numbers a sample.
Column = np.ndarray | list[np.ndarray]
Maker = Callable[[Mapping[str, Column]], Any]

TOKENIZERS = "transformers.tokenization_utils_base"
LARGEST_LENGTH = 10**9  # a tokenizer that knows no length says 10**30


class UnusualBatchError(Exception):
    """A batch that only the collator itself can make, or refuse."""


def batch_maker(collator: Any) -> Maker | None:
    """A function that makes of columns what `collator` makes of samples; None if that is not known.

    Known are etude's and transformers' own classes, not subclasses, with a tokenizer whose padding is that of
    transformers. The function raises `UnusualBatchError` where it would have to guess.
    """
    for known, theirs, make in KNOWN:
        if collator is known or collator is theirs():
            return partial(make, known)
        if type(collator) is known or type(collator) is theirs():
            return partial(make, collator) if _is_plain(collator) else None
    return None


def _of_transformers(name: str) -> Callable[[], Any]:
    """Looks a collator of transformers up, if it has been imported."""
    return lambda: getattr(sys.modules.get("transformers.data.data_collator"), name, type(None))


def _is_plain(collator: Any) -> bool:
    """Whether the collator's options, and its tokenizer, leave no doubt about what it makes."""
    if collator.return_tensors not in ("pt", "np"):
        return False
    if not hasattr(collator, "tokenizer"):
        return True
    multiple = collator.pad_to_multiple_of
    pads = collator.padding is True or collator.padding in ("longest", "max_length")
    return pads and (multiple is None or multiple > 0) and _is_plain_tokenizer(collator.tokenizer)


def _is_plain_tokenizer(tokenizer: Any) -> bool:
    """Whether padding is done by the base class of transformers' tokenizers."""
    base = getattr(sys.modules.get(TOKENIZERS), "PreTrainedTokenizerBase", None)
    methods = ("pad", "_pad", "_get_padding_truncation_strategies")
    return base is not None and all(
        getattr(type(tokenizer), name, None) is getattr(base, name, base) and name not in vars(tokenizer)
        for name in methods
    )


def _stacked_batch(collator: Any, columns: Mapping[str, Column]) -> dict[str, Any]:
    """As `default_data_collator` does."""
    to = getattr(collator, "return_tensors", "pt")
    batch: dict[str, Any] = {}
    if "label" in columns:
        labels = columns["label"]
        if isinstance(labels, list):
            raise UnusualBatchError
        kind = np.int64 if labels.dtype.kind in "iu" else np.float32
        batch["labels"] = _finished(labels.astype(kind), to, keep=True)
    elif "label_ids" in columns:
        if not isinstance(columns["label_ids"], list):
            raise UnusualBatchError
        batch["labels"] = _finished(_block(columns["label_ids"]), to)
    for name, values in columns.items():
        if name not in LABEL_KEYS:
            batch[name] = _finished(_block(values), to)
    return batch


def _padded_batch(collator: Any, columns: Mapping[str, Column]) -> Any:
    """As `DataCollatorWithPadding` does."""
    batch = _padded(collator, columns)
    for key in LABEL_KEYS:
        if key in batch:
            batch["labels"] = batch.pop(key)
    return _encoding(batch)


def _batch_of_tagged(collator: Any, columns: Mapping[str, Column]) -> Any:
    """As `DataCollatorForTokenClassification` does."""
    name, rest = _without_labels(columns)
    batch = _padded(collator, rest)
    if name in columns:
        if "input_ids" not in batch:
            raise UnusualBatchError
        batch[name] = _labels(collator, columns[name], batch["input_ids"].shape[1])
    return _encoding(batch)


def _batch_of_pairs(collator: Any, columns: Mapping[str, Column]) -> Any:
    """As `DataCollatorForSeq2Seq` does."""
    name, rest = _without_labels(columns)
    batch = _padded(collator, rest)
    batch["labels"] = None
    if name in columns:
        batch["labels"] = _labels(collator, columns[name], _width_of_answers(collator, columns[name]))
        prepare = getattr(collator.model, "prepare_decoder_input_ids_from_labels", None)
        if prepare is not None:
            if collator.return_tensors == "np":
                raise UnusualBatchError
            batch["decoder_input_ids"] = prepare(labels=batch["labels"])
    return _encoding(batch)


def _without_labels(columns: Mapping[str, Column]) -> tuple[str, dict[str, Column]]:
    """The name that labels go by, and the other columns."""
    name = "label" if "label" in columns else "labels"
    return name, {key: values for key, values in columns.items() if key != name}


def _width_of_answers(collator: Any, answers: Column) -> int:
    longest = max(len(row) for row in answers) if isinstance(answers, list) else 0
    asked = longest
    if collator.padding == "max_length" and collator.max_length is not None:
        asked = collator.max_length
    return rounded_up(asked, collator.pad_to_multiple_of)


def _labels(collator: Any, labels: Column, width: int) -> Any:
    """Rows of labels, one for each token, filled up to `width`."""
    if not isinstance(labels, list):
        raise UnusualBatchError
    return _finished(
        _filled(labels, width, collator.label_pad_token_id, collator.tokenizer.padding_side),
        collator.return_tensors,
    )


def _padded(collator: Any, columns: Mapping[str, Column]) -> dict[str, Any]:
    """The columns as the tokenizer pads them."""
    tokenizer = collator.tokenizer
    names = tokenizer.model_input_names
    inputs = columns.get(names[0])
    padding, side = tokenizer.pad_token_id, tokenizer.padding_side
    if not isinstance(inputs, list) or padding is None or padding < 0 or side not in ("left", "right"):
        raise UnusualBatchError
    lengths = [len(row) for row in inputs]
    width = _width(collator, max(lengths))
    fillers = {names[0]: padding, "token_type_ids": tokenizer.pad_token_type_id, "special_tokens_mask": 1}
    if "attention_mask" in names:
        fillers["attention_mask"] = 0
    batch: dict[str, Any] = {}
    for name, values in columns.items():
        if name in fillers and isinstance(values, list):
            if [len(row) for row in values] != lengths:
                raise UnusualBatchError
            block = _filled(values, width, fillers[name], side)
        elif name in fillers:
            raise UnusualBatchError
        else:
            block = _block(values)
        batch[name] = _finished(block, collator.return_tensors)
    if "attention_mask" in names and "attention_mask" not in columns:
        ones = [np.ones(length, dtype=np.int64) for length in lengths]
        batch["attention_mask"] = _finished(_filled(ones, width, 0, side), collator.return_tensors)
    return batch


def _width(collator: Any, longest: int) -> int:
    """What the inputs are padded to."""
    asked = longest
    if collator.padding == "max_length":
        given = collator.max_length
        asked = collator.tokenizer.model_max_length if given is None else given
    if not longest <= asked <= LARGEST_LENGTH:
        raise UnusualBatchError
    return rounded_up(asked, collator.pad_to_multiple_of)


def _filled(rows: list[np.ndarray], width: int, padding: int, side: str) -> np.ndarray:
    """The rows as one array, filled up to `width`; as `collators.base.filled` does, of arrays and with less ado."""
    lengths = [len(row) for row in rows]
    if width == 0 or max(lengths) > width:  # without a number nothing says of which kind they are
        raise UnusualBatchError
    block = np.empty((len(rows), width), dtype=np.int64)
    block.fill(padding)
    for i, length in enumerate(lengths):
        if side == "right":
            block[i, :length] = rows[i]
        else:
            block[i, width - length :] = rows[i]
    return block


def _block(values: Column) -> np.ndarray:
    """A column of numbers, or rows of equal length, as one array."""
    if isinstance(values, np.ndarray):
        return values
    width = len(values[0])
    if any(len(row) != width for row in values):
        raise UnusualBatchError
    return _filled(values, width, 0, "right")


def _finished(values: np.ndarray, to: str, keep: bool = False) -> Any:
    """The array or tensor that the collators make of Python's numbers, or, with `keep`, of this very format."""
    if not keep:
        values = values.astype(np.int64 if values.dtype.kind in "iu" else np.float64, copy=False)
    if to == "np":
        return values
    tensor = torch.from_numpy(values)
    return tensor if keep or values.dtype.kind in "iu" else tensor.to(torch.get_default_dtype())


def _encoding(batch: dict[str, Any]) -> Any:
    """What a tokenizer gives."""
    return sys.modules[TOKENIZERS].BatchEncoding(batch)


# etude's collator, that of transformers, and what makes the same batch
KNOWN: tuple[tuple[Any, Callable[[], Any], Callable[..., Any]], ...] = (
    (default_data_collator, _of_transformers("default_data_collator"), _stacked_batch),
    (DefaultDataCollator, _of_transformers("DefaultDataCollator"), _stacked_batch),
    (DataCollatorWithPadding, _of_transformers("DataCollatorWithPadding"), _padded_batch),
    (DataCollatorForTokenClassification, _of_transformers("DataCollatorForTokenClassification"), _batch_of_tagged),
    (DataCollatorForSeq2Seq, _of_transformers("DataCollatorForSeq2Seq"), _batch_of_pairs),
)  # fmt: skip
