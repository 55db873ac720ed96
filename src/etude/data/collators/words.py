"""Which tokens make a word together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.errors import DataError


@dataclass(frozen=True)
class Words:
    """The words of a batch, as truth values of shape [samples, length].

    Attributes:
        starts: the first token of each word.
        inside: all tokens of words, which special tokens are not.
    """

    starts: np.ndarray
    inside: np.ndarray

    def whole(self, chosen: np.ndarray) -> np.ndarray:
        """All tokens of the words whose first token is chosen."""
        columns = np.arange(chosen.shape[1])
        first_of_word = np.maximum.accumulate(np.where(self.starts, columns, 0), axis=1)
        return np.where(self.inside, np.take_along_axis(chosen, first_of_word, axis=1), False)


def words_from_offsets(offsets: np.ndarray | None, special: np.ndarray) -> Words:
    """A token that begins where the one before it ends belongs to its word.

    Args:
        offsets: first and last character of each token, shape [samples, length, 2].
        special: where the special tokens are.

    Raises:
        DataError: the samples came without offsets.
    """
    if offsets is None:
        raise DataError(
            "`whole_word_mask=True` needs the `offset_mapping` of each sample: call a fast tokenizer with "
            "`return_offsets_mapping=True`, and train with `remove_unused_columns=False`."
        )
    continues = np.zeros(special.shape, dtype=bool)
    continues[:, 1:] = offsets[:, 1:, 0] == offsets[:, :-1, 1]
    return _words(continues, special)


def words_from_pieces(tokenizer: Any, ids: np.ndarray, special: np.ndarray) -> Words:
    """A token written with ## belongs to the word before it, as in BERT's vocabularies."""
    pieces = [
        [str(token).startswith("##") for token in tokenizer.convert_ids_to_tokens(row)]
        for row in ids.tolist()
    ]
    return _words(np.asarray(pieces, dtype=bool), special)


def padded_offsets(rows: Sequence[Any], width: int, side: str) -> np.ndarray:
    """Offsets of unequal length as one array of shape [rows, width, 2]."""
    result = np.zeros((len(rows), width, 2), dtype=np.int64)
    for target, row in zip(result, rows, strict=True):
        length = len(row)
        target[slice(length) if side == "right" else slice(width - length, width)] = np.asarray(row)
    return result


def _words(continues: np.ndarray, special: np.ndarray) -> Words:
    after_special = np.zeros(special.shape, dtype=bool)
    after_special[:, 1:] = special[:, :-1]
    return Words(starts=~special & (~continues | after_special), inside=~special)
