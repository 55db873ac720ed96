"""Is a batch padded as the reference pads it?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from etude.data.collators import DataCollatorWithPadding
from tests import helpers
from tests.data.collators.test_reference import described
from tests.data.collators.tokenizers import TEXTS, wordpiece


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pad_to_multiple_of": 8},
        {"padding": "max_length", "max_length": 16},
        {"return_tensors": "np"},
        {"padding": "longest"},
    ],
    ids=str,
)
@pytest.mark.parametrize("label", ["label", "labels", "label_ids", None])
def test_padding_is_that_of_the_reference(options: dict[str, Any], label: str | None) -> None:
    tokenizer = wordpiece()
    samples = [{**tokenizer(text), **({} if label is None else {label: 1})} for text in TEXTS]
    with helpers.library("transformers") as lib:
        expected = lib.DataCollatorWithPadding(tokenizer, **options)(copy.deepcopy(samples))
    assert described(DataCollatorWithPadding(tokenizer, **options)(samples)) == described(expected)


def test_padding_leaves_the_samples_as_they_were() -> None:
    tokenizer = wordpiece()
    samples = [{**tokenizer(text), "label": 0} for text in TEXTS]
    before = copy.deepcopy(samples)
    DataCollatorWithPadding(tokenizer)(samples)
    assert samples == before


def test_padding_gives_no_advice_and_leaves_the_tokenizer_as_it_was(caplog: Any) -> None:
    tokenizer = wordpiece()
    seen = dict(tokenizer.deprecation_warnings)
    DataCollatorWithPadding(tokenizer)([tokenizer(text) for text in TEXTS])
    assert not [record for record in caplog.records if "fast tokenizer" in record.getMessage()]
    key = "Asking-to-pad-a-fast-tokenizer"
    assert tokenizer.deprecation_warnings.get(key, False) == seen.get(key, False)


def test_anything_with_a_pad_method_pads() -> None:
    class Own:
        def pad(self, features: list[Any], **options: Any) -> dict[str, Any]:
            return {"x": torch.tensor([len(features)]), "label": torch.tensor([1])}

    batch = DataCollatorWithPadding(Own())([{}, {}])
    assert {name: value.tolist() for name, value in batch.items()} == {"x": [2], "labels": [1]}
