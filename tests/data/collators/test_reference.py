"""Are batches those of the reference, number by number, and the samples left as they were?"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import etude
from tests import helpers
from tests.data.collators.tokenizers import bytes_only, encoded, wordpiece


def plain(rows: list[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]


def with_labels(name: str, kind: Callable[[list[int]], Any] = list, **options: Any) -> list[Any]:
    """A label for each token."""
    rows = encoded(wordpiece(), **options)
    return [{**row, name: kind([i % 3 for i in range(len(row["input_ids"]))])} for row in rows]


def answers(kind: Callable[[list[int]], Any] = list) -> list[dict[str, Any]]:
    """Labels of another length than the inputs."""
    return [{**row, "labels": kind(list(range(1, 3 + i)))} for i, row in enumerate(encoded(wordpiece()))]


def choices() -> list[dict[str, Any]]:
    tokenizer = wordpiece()
    pairs = [("the cat", "a mat on it"), ("unwanted dog", "it")]
    return [{**tokenizer(list(pair)), "label": i} for i, pair in enumerate(pairs)]


def even(lengths: tuple[int, ...] = (8, 8)) -> list[dict[str, Any]]:
    numbers = np.random.default_rng(1)
    return [{"input_ids": [2, *numbers.integers(5, 20, size=n - 2).tolist(), 3]} for n in lengths]


def same_length(**options: Any) -> list[Any]:
    return encoded(wordpiece(), ["the unwanted cat", "running dog saw it"], **options)


@dataclass
class Case:
    """A collator, its options and its samples."""

    name: str
    samples: Callable[[], list[Any]]
    options: dict[str, Any] = field(default_factory=dict)
    tokenizer: Callable[[], Any] | None = wordpiece
    kinds: tuple[str, ...] = ("pt", "np")

    def __str__(self) -> str:
        return f"{self.name.removeprefix('DataCollator')}-{self.options}"


def shares(chosen: float, masked: float, swapped: float) -> dict[str, Any]:
    return {"mlm_probability": chosen, "mask_replace_prob": masked, "random_replace_prob": swapped}


def left() -> Any:
    return wordpiece("left")


TOKENS, SEQ2SEQ, LM = (
    "DataCollatorForTokenClassification",
    "DataCollatorForSeq2Seq",
    "DataCollatorForLanguageModeling",
)
FLAT, PLM = "DataCollatorWithFlattening", "DataCollatorForPermutationLanguageModeling"
BOUNDARIES = {"return_flash_attn_kwargs": True}
WHOLE = {"whole_word_mask": True, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
CASES = [
    Case("DataCollatorWithPadding", lambda: encoded(wordpiece()), kinds=("pt",)),
    Case(TOKENS, lambda: with_labels("labels")),
    Case(TOKENS, lambda: with_labels("label"), {"pad_to_multiple_of": 8}),
    Case(TOKENS, lambda: with_labels("labels", torch.tensor), {"label_pad_token_id": -1}, kinds=("pt",)),
    Case(TOKENS, lambda: with_labels("labels", np.array), {"padding": "max_length", "max_length": 16}, left),
    Case(TOKENS, lambda: encoded(wordpiece())),
    Case("DataCollatorForMultipleChoice", choices, kinds=("pt",)),
    Case("DataCollatorForMultipleChoice", choices, {"pad_to_multiple_of": 8}, left, kinds=("pt",)),
    Case(SEQ2SEQ, answers),
    Case(SEQ2SEQ, lambda: answers(np.array), {"label_pad_token_id": -1}, left),
    Case(SEQ2SEQ, lambda: answers(torch.tensor), {"pad_to_multiple_of": 8}, kinds=("pt",)),
    Case(SEQ2SEQ, answers, {"padding": "max_length", "max_length": 16}),
    Case(SEQ2SEQ, lambda: [{**row, "labels": [1, 2]} for row in same_length()], {"padding": False}),
    Case(SEQ2SEQ, lambda: [{**row, "label": [1, 2]} for row in encoded(wordpiece())]),
    Case(SEQ2SEQ, lambda: [{**row, "labels": None} for row in encoded(wordpiece())]),
    Case(SEQ2SEQ, lambda: encoded(wordpiece())),
    Case(LM, lambda: encoded(wordpiece()), {"mlm": False}),
    Case(LM, lambda: [[5, 6, 7], [8, 9]], {"mlm": False, "pad_to_multiple_of": 4}),
    Case(LM, lambda: [[5, 6, 7], [8, 9, 10]], {"mlm": False}, bytes_only),
    Case(LM, lambda: encoded(wordpiece())),
    Case(LM, lambda: plain(encoded(wordpiece(), return_special_tokens_mask=True)), {"mlm_probability": 0.5}),
    Case(LM, lambda: [[2, 5, 6, 7, 3], [2, 8, 9, 3]], {"mlm_probability": 0.5, "pad_to_multiple_of": 8}, left),
    Case(LM, lambda: [torch.tensor([2, 5, 6, 7, 3])] * 2, {"mlm_probability": 0.5}, kinds=("pt",)),
    Case(LM, lambda: encoded(wordpiece()), {"mlm_probability": 0.6, "seed": 7}),
    Case(LM, lambda: encoded(wordpiece()), shares(1.0, 0.3, 0.7)),
    Case(LM, lambda: encoded(wordpiece()), shares(0.7, 0, 0.5)),
    Case(LM, lambda: encoded(wordpiece()), shares(0.7, 0.5, 0.0)),
    Case(LM, lambda: encoded(wordpiece()), {"mlm_probability": 0.0}),
    Case(LM, lambda: same_length(return_offsets_mapping=True), {**WHOLE, "mlm_probability": 0.5}),
    Case(LM, lambda: same_length(return_offsets_mapping=True, return_special_tokens_mask=True), {**WHOLE, "seed": 3}),
    Case(PLM, even, kinds=("pt",)),
    Case(PLM, lambda: even((6, 10, 8)), {"plm_probability": 0.4, "max_span_length": 3}, kinds=("pt",)),
    Case(PLM, lambda: [row["input_ids"] for row in even()], {"max_span_length": 2}, kinds=("pt",)),
    Case("DefaultDataCollator", lambda: plain(same_length()), tokenizer=None),
    Case(FLAT, lambda: encoded(wordpiece()), tokenizer=None),
    Case(FLAT, lambda: with_labels("labels"), {"separator_id": -1, "position_ids_start": 2}, None),
    Case(FLAT, lambda: with_labels("labels", torch.tensor), {**BOUNDARIES, "return_seq_idx": True}, None),
    Case(FLAT, lambda: encoded(wordpiece()), {"return_position_ids": False, "return_seq_idx": True}, None),
]  # fmt: skip
ALL = [
    pytest.param(case, kind, id=f"{i}-{case}-{kind}") for i, case in enumerate(CASES) for kind in case.kinds
]


def described(batch: Any) -> dict[str, Any]:
    """Kinds, number formats, shapes and values."""
    return {
        key: (type(value).__name__, str(getattr(value, "dtype", "")), np.asarray(value).tolist())
        for key, value in batch.items()
    }


def batches(lib: Any, case: Case, kind: str, count: int = 3) -> list[dict[str, Any]]:
    """Some batches in a row, so that a generator goes on where it was."""
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    given = () if case.tokenizer is None else (case.tokenizer(),)
    collator = getattr(lib, case.name)(*given, **case.options, return_tensors=kind)
    return [described(collator(case.samples())) for _ in range(count)]


@pytest.mark.parametrize(("case", "kind"), ALL)
def test_batches_are_those_of_the_reference(case: Case, kind: str) -> None:
    """Equal keys, kinds, formats and values; where they are drawn, from the same seed the same ones."""
    with helpers.library("transformers") as lib:
        expected = batches(lib, case, kind)
    found = batches(etude, case, kind)
    assert found == expected


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case}" for i, case in enumerate(CASES)])
def test_samples_are_left_as_they_were(case: Case) -> None:
    """Also where the batch is written to afterwards, for both kinds of tensors, asked for at the call."""
    samples = case.samples()
    before = repr(copy.deepcopy(samples))
    given = () if case.tokenizer is None else (case.tokenizer(),)
    collator = getattr(etude, case.name)(*given, **case.options)
    for kind, made in (("pt", torch.Tensor), ("np", np.ndarray)):
        batch = collator(samples, return_tensors=kind)
        arrays = [value for value in batch.values() if isinstance(value, made)]
        assert len(arrays) >= len(batch) - 2  # the others are None, or the lengths of FlashAttention
        for value in arrays:
            value[...] = 0
        assert repr(samples) == before


@pytest.mark.parametrize("name", sorted({case.name for case in CASES}))
def test_other_kinds_of_tensors_are_refused(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    given = () if case.tokenizer is None else (case.tokenizer(),)
    with pytest.raises(ValueError, match="'pt' or 'np', not 'tf'"):
        getattr(etude, name)(*given, **case.options)(case.samples(), return_tensors="tf")
