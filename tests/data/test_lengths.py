"""Are lengths found, wherever a data set has them?"""

from __future__ import annotations

from typing import Any

import datasets
import pytest
import torch

from etude.data.lengths import sample_lengths
from etude.errors import DataError

LISTS = [[1, 2, 3], [4], [5, 6]]
COUNTED = [3, 1, 2]


def table(**columns: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": LISTS, **columns})


def test_a_column_of_lengths_counts() -> None:
    assert sample_lengths(table(length=[7, 8, 9]), "length") == [7, 8, 9]
    assert sample_lengths(table(n=[7, 8, 9]).with_format("torch"), "n") == [7, 8, 9]
    assert sample_lengths([{"n": torch.tensor(7)}, {"n": 8}], "n") == [7, 8]


@pytest.mark.parametrize(
    "dataset",
    [
        table(),
        table().with_format("torch"),
        table(n=[1, 1, 1]).with_transform(lambda rows: {"input_ids": LISTS_OF[len(rows["n"])]}),
        datasets.Dataset.from_dict({"input_ids": [[0], *LISTS[::-1]]}).select([3, 2, 1]),
        [{"input_ids": ids} for ids in LISTS],
        [{"input_ids": torch.tensor(ids)} for ids in LISTS],
    ],
    ids=["table", "tensors", "transformed", "selected", "rows", "rows of tensors"],
)
def test_samples_are_counted(dataset: Any) -> None:
    if isinstance(dataset, datasets.Dataset) and dataset.format["type"] == "custom":
        expected = [len(dataset[i]["input_ids"]) for i in range(3)]
    else:
        expected = COUNTED
    assert sample_lengths(dataset, "length") == expected


LISTS_OF = {1: [[1, 2, 3, 4]], 3: LISTS}


def test_reading_leaves_the_random_state_as_it_was() -> None:
    class Noisy:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> dict[str, Any]:
            torch.rand(3)
            return {"input_ids": LISTS[index]}

    state = torch.get_rng_state()
    assert sample_lengths(Noisy()) == COUNTED
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dataset", [table(), [{"input_ids": [1]}]])
def test_a_column_that_is_not_there_is_an_error(dataset: Any) -> None:
    with pytest.raises(DataError, match=r"`length_column_name='n_tokens'`.*it has input_ids"):
        sample_lengths(dataset, "n_tokens")


@pytest.mark.parametrize("dataset", [table(), [{"a": 1}], [torch.ones(2)]])
def test_samples_without_the_input_are_an_error(dataset: Any) -> None:
    with pytest.raises(ValueError, match="Can only automatically infer lengths.*'pixels' key"):
        sample_lengths(dataset, "length", "pixels")
