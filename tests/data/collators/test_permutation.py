"""Does a permuted batch keep what it hides from being seen?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.data.collators import DataCollatorForPermutationLanguageModeling
from tests.data.collators.tokenizers import bytes_only, wordpiece
from tests.properties import quick


@quick
@given(st.integers(2, 12), st.integers(1, 5), st.sampled_from(["pt", "np"]), st.data())
def test_what_is_hidden_is_predicted_and_not_seen(half: int, span: int, kind: str, data: Any) -> None:
    ids = data.draw(st.lists(st.integers(0, 20), min_size=2 * half, max_size=2 * half))
    collator = DataCollatorForPermutationLanguageModeling(
        wordpiece(), max_span_length=span, return_tensors=kind
    )
    batch = {name: np.asarray(value) for name, value in collator([{"input_ids": ids}] * 2).items()}
    length = 2 * half
    assert batch["perm_mask"].shape == batch["target_mapping"].shape == (2, length, length)
    for row in range(2):
        hidden = batch["labels"][row] != -100
        assert not hidden[np.isin(ids, [0, 1, 2, 3, 4])].any()  # special tokens
        assert (batch["input_ids"][row][hidden] == 4).all()
        assert (batch["input_ids"][row][~hidden] == np.array(ids)[~hidden]).all()
        assert (batch["labels"][row][hidden] == np.array(ids)[hidden]).all()
        assert (batch["target_mapping"][row] == np.eye(length)).all()
        unseen = batch["perm_mask"][row].astype(bool)
        assert not unseen[:, ~hidden].any()  # what is not hidden is seen by all
        assert unseen.diagonal()[hidden].all()  # nothing hidden sees itself
        assert not (unseen & unseen.T)[np.ix_(hidden, hidden)][~np.eye(hidden.sum(), dtype=bool)].any()
        assert max(map(len, "".join("x" if h else " " for h in hidden).split()), default=0) <= 2 * span


def test_what_cannot_be_permuted_is_refused() -> None:
    with pytest.raises(ValueError, match="even length"):
        DataCollatorForPermutationLanguageModeling(wordpiece())([[5, 6, 7]])
    with pytest.raises(ValueError, match="mask token"):
        DataCollatorForPermutationLanguageModeling(bytes_only())([[5, 6]])
    with pytest.raises(ValueError, match="pad token"):
        DataCollatorForPermutationLanguageModeling(bytes_only())([[5, 6], [5]])
