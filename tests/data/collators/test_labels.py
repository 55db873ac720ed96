"""Are labels of their own length padded, and those that do not fit refused?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from etude.data.collators import (
    DataCollatorForMultipleChoice,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorMixin,
    DataCollatorWithFlattening,
)
from etude.errors import DataError
from tests import helpers
from tests.data.collators.tokenizers import encoded, wordpiece


class Decoder:
    """A model that begins each sequence with 7."""

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(labels[:, :1], 7), labels[:, :-1]], dim=1).masked_fill(
            labels == -100, 0
        )


def rows_with_answers() -> list[dict[str, Any]]:
    return [{**row, "labels": list(range(1, 3 + i))} for i, row in enumerate(encoded(wordpiece()))]


def test_the_model_prepares_what_its_decoder_reads() -> None:
    with helpers.library("transformers") as lib:
        expected = lib.DataCollatorForSeq2Seq(wordpiece(), model=Decoder())(rows_with_answers())
    collator = DataCollatorForSeq2Seq(wordpiece(), model=Decoder())
    found, array = collator(rows_with_answers()), collator(rows_with_answers(), return_tensors="np")
    assert torch.equal(found["decoder_input_ids"], expected["decoder_input_ids"])
    assert isinstance(array["decoder_input_ids"], np.ndarray)
    assert array["decoder_input_ids"].tolist() == expected["decoder_input_ids"].tolist()
    assert "decoder_input_ids" not in collator(encoded(wordpiece()))


def test_answers_longer_than_the_length_asked_for_are_kept_whole() -> None:
    collator = DataCollatorForSeq2Seq(wordpiece(), padding="max_length", max_length=16)
    rows = [{**row, "labels": list(range(20 + i))} for i, row in enumerate(encoded(wordpiece()))]
    assert collator(rows)["labels"].shape == (4, 23)


@pytest.mark.parametrize("padding", [False, "do_not_pad"])
def test_unpadded_answers_of_unequal_length_are_refused(padding: Any) -> None:
    rows = [{"input_ids": [2, 5, 3], "labels": [1] * (1 + i)} for i in range(2)]
    with pytest.raises(DataError, match="labels differ in length.*padding=True"):
        DataCollatorForSeq2Seq(wordpiece(), padding=padding)(rows)


def test_more_labels_than_tokens_are_refused() -> None:
    rows = [{"input_ids": [2, 5, 3], "labels": [1, 1, 1, 1]}, {"input_ids": [2, 3], "labels": [1, 1]}]
    with pytest.raises(DataError, match="4 entries where the inputs have 3"):
        DataCollatorForTokenClassification(wordpiece())(rows)


@pytest.mark.parametrize("kind", ["pt", "np"])
def test_choices_become_a_dimension(kind: str) -> None:
    rows = [dict(wordpiece()(["the cat", "a mat on it"])) for _ in range(3)]
    batch = DataCollatorForMultipleChoice(wordpiece())(rows, return_tensors=kind)
    assert {tuple(value.shape) for value in batch.values()} == {(3, 2, 6)}
    assert "labels" not in batch
    with pytest.raises(DataError, match=r"as many choices, these have \[1, 2\]"):
        DataCollatorForMultipleChoice(wordpiece())([rows[0], dict(wordpiece()(["it"]))])


def test_a_sample_without_tokens_takes_no_place() -> None:
    batch = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)(
        [{"input_ids": [5, 6]}, {"input_ids": []}, {"input_ids": [7]}]
    )
    assert batch["labels"].tolist() == [[-100, 6, -100]]
    assert batch["position_ids"].tolist() == [[0, 1, 0]]
    assert batch["seq_idx"].tolist() == [[0, 0, 2]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 2, 2, 3]


def test_separators_may_be_given_at_the_call() -> None:
    batch = DataCollatorWithFlattening()([{"input_ids": [5, 6]}, {"input_ids": [7, 8]}], separator_id=-7)
    assert batch["labels"].tolist() == [[-7, 6, -7, 8]]


def test_an_own_collator_defines_the_kinds_it_makes() -> None:
    class Own(DataCollatorMixin):
        return_tensors = "np"

        def numpy_call(self, features: list[Any]) -> Any:
            return np.array(features)

    assert Own()([1, 2]).tolist() == [1, 2]
    with pytest.raises(NotImplementedError, match="Own does not make PyTorch tensors"):
        Own()([1, 2], return_tensors="pt")
