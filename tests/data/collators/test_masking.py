"""Are the right tokens hidden, as often as asked, and are impossible wishes refused?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from etude.data.collators import DataCollatorForLanguageModeling, DataCollatorForWholeWordMask
from etude.errors import DataError
from tests import helpers
from tests.data.collators.tokenizers import TEXTS, bytes_only, encoded, wordpiece
from tests.properties import quick

MASK = 4
SPECIAL = (0, 2, 3)
PROBLEM = "prob|[Ww]hole"


@pytest.mark.parametrize("kind", ["pt", "np"])
@pytest.mark.parametrize("whole", [False, True])
def test_tokens_are_hidden_in_the_shares_asked_for(kind: str, whole: bool) -> None:
    """Labels are what was there; special tokens stay; of the chosen 40 % are masked, 30 % swapped, the rest stay."""
    options: dict[str, Any] = {"mask_replace_prob": 0.4, "random_replace_prob": 0.3}
    if whole:
        options = {"whole_word_mask": True, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    rows = encoded(wordpiece(), [" ".join(TEXTS) * 4] * 150, return_offsets_mapping=whole)
    collator = DataCollatorForLanguageModeling(
        wordpiece(), mlm_probability=0.3, seed=1, return_tensors=kind, **options
    )
    batch = {key: np.asarray(value) for key, value in collator(rows).items()}
    ids = np.array([row["input_ids"] for row in rows])
    chosen = batch["labels"] != -100
    assert (batch["labels"][chosen] == ids[chosen]).all()
    assert (batch["input_ids"][~chosen] == ids[~chosen]).all()
    assert not chosen[np.isin(ids, SPECIAL)].any()
    share = chosen[~np.isin(ids, SPECIAL)].mean()
    masked = (batch["input_ids"][chosen] == MASK).mean()
    kept = (batch["input_ids"][chosen] == ids[chosen]).mean()
    assert share == pytest.approx(0.3, abs=0.03)
    # a random token is the mask token, or the one that was there, once in 21 times
    assert masked == pytest.approx(1.0 if whole else 0.4 + 0.3 / 21, abs=0.03)
    assert kept == pytest.approx(0.0 if whole else 0.3 + 0.3 / 21, abs=0.03)


@quick
@given(st.integers(0, 1000), st.sampled_from(["right", "left"]), st.booleans())
def test_words_are_hidden_as_a_whole(seed: int, side: str, offsets: bool) -> None:
    """Also where samples differ in length, which the reference does not pad, and by the ## of the pieces."""
    rows = encoded(wordpiece(side), return_offsets_mapping=offsets)
    if offsets:
        collator = DataCollatorForLanguageModeling(
            wordpiece(side), whole_word_mask=True, mlm_probability=0.5, mask_replace_prob=1.0,
            random_replace_prob=0.0, seed=seed,
        )  # fmt: skip
    else:
        with pytest.warns(FutureWarning, match="whole_word_mask=True"):
            collator = DataCollatorForWholeWordMask(wordpiece(side), mlm_probability=0.5, seed=seed)
    batch = collator(rows)
    for row, labels, mask in zip(rows, batch["labels"], batch["attention_mask"], strict=True):
        assert (labels[mask == 0] == -100).all()
        chosen = (labels[mask == 1] != -100).tolist()
        by_word: dict[int, set[bool]] = {}
        for word, is_chosen in zip(row.word_ids(), chosen, strict=True):
            by_word.setdefault(-1 if word is None else word, set()).add(is_chosen)
        assert by_word.pop(-1) == {False}
        assert all(len(found) == 1 for found in by_word.values())


def test_the_older_name_swaps_tokens_too() -> None:
    with pytest.warns(FutureWarning, match="DataCollatorForWholeWordMask"):
        collator = DataCollatorForWholeWordMask(wordpiece(), mlm_probability=1.0, seed=1)
    assert (collator.mask_replace_prob, collator.random_replace_prob) == (0.8, 0.1)
    batch = collator(encoded(wordpiece(), TEXTS * 20))
    hidden = batch["input_ids"][batch["labels"] != -100]
    assert 0.7 < (hidden == MASK).float().mean() < 0.9


def test_replacing_whole_words_is_said() -> None:
    with pytest.warns(UserWarning, match="mask_replace_prob"):
        collator = DataCollatorForLanguageModeling(wordpiece(), whole_word_mask=True)
    assert (collator.mask_replace_prob, collator.random_replace_prob) == (1.0, 0.0)


def test_whole_words_need_offsets() -> None:
    collator = DataCollatorForLanguageModeling(
        wordpiece(), whole_word_mask=True, mask_replace_prob=1.0, random_replace_prob=0.0
    )
    with pytest.raises(DataError, match="return_offsets_mapping=True.*remove_unused_columns=False"):
        collator(encoded(wordpiece()))


@pytest.mark.parametrize(
    "options",
    [
        {"mlm_probability": None},
        {"mlm_probability": 1.1},
        {"mlm_probability": -0.1},
        {"mask_replace_prob": 1.1, "random_replace_prob": -0.5},
        {"mask_replace_prob": -0.1},
        {"random_replace_prob": -0.1},
        {"mask_replace_prob": 0.7, "random_replace_prob": 0.4},
        {"mlm": False, "whole_word_mask": True},
        {"mlm": False, "mask_replace_prob": 2},
    ],
    ids=str,
)
def test_what_the_reference_refuses_is_refused(options: dict[str, Any]) -> None:
    with helpers.library("transformers") as lib, pytest.raises(ValueError, match=PROBLEM):
        lib.DataCollatorForLanguageModeling(wordpiece(), **options)
    with pytest.raises(ValueError, match=PROBLEM):
        DataCollatorForLanguageModeling(wordpiece(), **options)


def test_tokenizers_without_the_tokens_needed_are_refused() -> None:
    with pytest.raises(ValueError, match="mask token.*mlm=False"):
        DataCollatorForLanguageModeling(bytes_only())
    causal = DataCollatorForLanguageModeling(bytes_only(), mlm=False)
    with pytest.raises(ValueError, match="pad token"):
        causal([[1, 2], [3]])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_gives_the_masks_of_the_reference_in_a_loader(workers: int) -> None:
    """Each loading process has a generator of its own."""
    rows = encoded(wordpiece(), TEXTS * 3)

    def masks(collator: Any) -> list[Any]:
        torch.manual_seed(int(torch.randint(100, ()).item()))  # the global generator plays no part
        loader = DataLoader(rows, batch_size=2, num_workers=workers, collate_fn=collator)
        return [batch["input_ids"].tolist() for batch in loader]

    ours = masks(DataCollatorForLanguageModeling(wordpiece(), mlm_probability=0.5, seed=4))
    with helpers.library("transformers") as lib:
        theirs = masks(lib.DataCollatorForLanguageModeling(wordpiece(), mlm_probability=0.5, seed=4))
    assert ours == theirs
    assert ours != masks(DataCollatorForLanguageModeling(wordpiece(), mlm_probability=0.5, seed=5))


def test_own_masking_is_called() -> None:
    """Scripts override how tokens are hidden."""

    class Own(DataCollatorForLanguageModeling):
        def torch_mask_tokens(
            self, inputs: Any, special_tokens_mask: Any = None, offset_mapping: Any = None
        ) -> Any:
            found, labels = super().torch_mask_tokens(inputs, special_tokens_mask)
            return found + 100, labels

    batch = Own(wordpiece(), mlm_probability=0.0)(encoded(wordpiece()))
    assert (batch["input_ids"] >= 100).all()
