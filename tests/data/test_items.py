"""How many items is a batch's loss the mean of?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from etude.data.items import label_items, valid_items

TAGS = torch.tensor([[1, -100, 2, 2], [-100, -100, 0, -100]])


@pytest.mark.parametrize(
    ("batch", "shifted", "items"),
    [
        ({"labels": TAGS}, False, 4),
        ({"labels": TAGS}, True, 3),
        ({"labels": TAGS.numpy()}, True, 3),
        ({"labels": torch.tensor([1, 0, -100])}, False, 2),
        ({"labels": torch.tensor(3)}, True, 1),
        ({"labels": TAGS, "shift_labels": torch.tensor([[1, -100]])}, True, 1),
        ({"labels": torch.rand(2, 3)}, False, 6),
        ({"labels": [{"boxes": 1}]}, False, None),
        ({"input_ids": TAGS}, False, None),
        ([TAGS], False, None),
    ],
)
def test_labels_that_count_are_counted(batch: Any, shifted: bool, items: int | None) -> None:
    assert label_items(batch, shifted) == items


@pytest.mark.parametrize(
    ("batch", "names", "shifted", "items"),
    [
        ({"labels": TAGS}, ["labels"], False, 4),
        ({"labels": TAGS}, ["labels"], True, 3),
        ({"labels": torch.rand(3, 2)}, ["labels"], False, 3),
        ({"labels": np.array([1, -100])}, ["labels"], False, 1),
        ({"start": torch.tensor([1, 2]), "end": torch.tensor([3, -100])}, ["start", "end"], False, 3),
        ({"x": torch.rand(5, 2)}, [], False, 5),
        ({"x": torch.rand(5, 2)}, ["labels"], False, 5),
        ({"x": torch.rand(5, 2), "labels": [1, 2]}, ["labels"], False, 5),
        ({"x": "text"}, [], False, 1),
        (torch.rand(4, 1), ["labels"], False, 4),
        ({"labels": torch.full((2, 2), -100)}, ["labels"], False, 0),
    ],
)
def test_items_behind_a_mean_are_counted(batch: Any, names: list[str], shifted: bool, items: int) -> None:
    assert valid_items(batch, names, shifted) == items


def test_the_count_is_what_pytorchs_mean_divides_by() -> None:
    scores = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    total, mean = (cross_entropy(scores, TAGS.flatten(), reduction=how) for how in ("sum", "mean"))
    torch.testing.assert_close(total / valid_items({"labels": TAGS}, ["labels"], False), mean)


def test_the_shifted_count_is_what_the_models_loss_divides_by() -> None:
    from tests import helpers

    model = helpers.gpt2_model().eval()
    batch = {"input_ids": torch.randint(0, 40, (2, 6)), "labels": torch.randint(0, 40, (2, 6))}
    batch["labels"][0, 3:] = -100
    with torch.no_grad():
        total = model(**batch, num_items_in_batch=1).loss
        mean = model(**batch).loss
    torch.testing.assert_close(total / label_items(batch, shifted=True), mean)
