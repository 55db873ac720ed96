"""Masking whole words, under the name of version 4."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.data.collators.masking import DataCollatorForLanguageModeling
from etude.data.collators.words import Words, words_from_offsets, words_from_pieces


@dataclass
class DataCollatorForWholeWordMask(DataCollatorForLanguageModeling):
    """`DataCollatorForLanguageModeling(whole_word_mask=True)`, which replaced it.

    As in version 4, chosen words are replaced by random tokens too, and words are told by the ## of BERT's
    vocabularies where the samples have no `offset_mapping`.
    """

    whole_word_mask: bool = True

    def __post_init__(self) -> None:
        warnings.warn(
            "`DataCollatorForWholeWordMask` is now `DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True)`.",
            FutureWarning,
            stacklevel=3,
        )
        super().__post_init__()

    def _replace_whole_words(self) -> None:
        """Keeps the shares of mask tokens and random tokens."""

    def _words(self, ids: np.ndarray, special: np.ndarray, offsets: Any) -> Words:
        if offsets is not None:
            return words_from_offsets(offsets, special)
        return words_from_pieces(self.tokenizer, ids, special)
