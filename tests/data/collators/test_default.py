"""Are batches those of the reference's collators, and the samples left as they were?"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from etude.data.collators import DefaultDataCollator, default_data_collator
from etude.errors import ConfigurationError, DataError
from tests import helpers

SAMPLES: dict[str, list[Any]] = {
    "whole numbers": [{"label": 1, "x": [1, 2]}, {"label": 0, "x": [3, 4]}],
    "floats": [{"label": 1.5, "x": [1.0, 2.0]}, {"label": 0.0, "x": [3.0, 4.0]}],
    "truth values": [{"label": True, "x": 1}, {"label": False, "x": 2}],
    "several classes at once": [{"label": [0, 1, 1]}, {"label": [1, 0, 0]}],
    "label tensors": [
        {"label": torch.tensor(1), "x": torch.rand(2)},
        {"label": torch.tensor(0), "x": torch.rand(2)},
    ],
    "float label tensors": [{"label": torch.tensor(1.0)}, {"label": torch.tensor(0.5)}],
    "label lists": [{"label_ids": [1, 2, 3]}, {"label_ids": [4, 5, 6]}],
    "float label lists": [{"label_ids": [1.0, 2.5]}, {"label_ids": [4.0, 5.0]}],
    "small label id tensors": [{"label_ids": torch.tensor([1, 2], dtype=torch.int32)}] * 2,
    "lists of label lists": [{"label_ids": [[1, 2], [3, 4]]}, {"label_ids": [[4, 5], [6, 7]]}],
    "numbers of NumPy": [{"x": np.float32(1.5), "y": np.int32(2)}, {"x": np.float32(2.5), "y": np.int32(3)}],
    "double numbers of NumPy": [{"x": [np.float64(1.1)]}, {"x": [np.float64(2.1)]}],
    "whole and other numbers": [{"x": [1, 2.1], "y": [[True], [2]]}, {"x": [3.1, 4], "y": [[3], [False]]}],
    "lists of arrays": [{"x": [np.arange(2.0), np.ones(2)]}] * 2,
    "tensors in lists": [{"x": [torch.tensor(1), torch.tensor(2)]}] * 2,
    "nothing in lists": [{"x": []}, {"x": []}],
    "large numbers": [{"x": [2**40, -(2**62)]}] * 2,
    "label id tensors": [{"label_ids": torch.tensor([1, 2])}, {"label_ids": torch.tensor([4, 5])}],
    "no label": [{"label": None, "x": 1}, {"label": None, "x": 2}],
    "both kinds of labels": [{"label": 1, "label_ids": [1, 2]}, {"label": 0, "label_ids": [3, 4]}],
    "ready labels": [{"labels": 1, "x": 2}, {"labels": 0, "x": 3}],
    "text is left out": [{"x": 1, "text": "a", "none": None}, {"x": 2, "text": "b", "none": None}],
    "arrays": [{"x": np.ones((2, 3), dtype=np.float32), "y": np.arange(2)}] * 2,
    "truth lists": [{"mask": [True, False]}, {"mask": [False, False]}],
    "objects": [SimpleNamespace(label=1, x=[1.0]), SimpleNamespace(label=2, x=[2.0])],
}


def described(batch: Any) -> dict[str, Any]:
    return {key: (type(value).__name__, str(value.dtype), value.tolist()) for key, value in batch.items()}


@pytest.mark.parametrize("kind", SAMPLES)
def test_tensors_are_those_of_the_reference(kind: str) -> None:
    with helpers.library("transformers") as lib:
        expected = lib.default_data_collator(copy.deepcopy(SAMPLES[kind]))
    assert described(default_data_collator(SAMPLES[kind])) == described(expected)


ARRAYS = [kind for kind in SAMPLES if "tensor" not in kind]


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_those_of_the_reference(kind: str) -> None:
    with helpers.library("transformers") as lib:
        expected = lib.default_data_collator(copy.deepcopy(SAMPLES[kind]), return_tensors="np")
    assert described(default_data_collator(SAMPLES[kind], return_tensors="np")) == described(expected)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_samples_are_left_as_they_were(kind: str, tensors: str) -> None:
    samples = copy.deepcopy(SAMPLES[kind])
    before = repr(samples)
    batch = default_data_collator(samples, return_tensors=tensors)
    for value in batch.values():
        value[...] = 0  # a batch that shared memory with the samples would spoil them
    assert repr(samples) == before


def test_whole_numbers_of_numpy_are_classes() -> None:
    assert default_data_collator([{"label": np.int64(3)}])["labels"].dtype == torch.int64


@pytest.mark.parametrize("kind", SAMPLES)
def test_keys_are_in_the_order_of_the_reference(kind: str) -> None:
    with helpers.library("transformers") as lib:
        expected = list(lib.default_data_collator(copy.deepcopy(SAMPLES[kind])))
    assert list(default_data_collator(SAMPLES[kind])) == expected


@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_lists_of_unequal_length_are_named(tensors: str) -> None:
    with pytest.raises(DataError, match="'x' cannot be stacked.*a data collator that pads"):
        default_data_collator([{"y": 1, "x": [1, 2]}, {"y": 1, "x": [1]}], return_tensors=tensors)


def test_unknown_kinds_of_tensors_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'pt' or 'np', not 'tf'"):
        default_data_collator([{"x": 1}], return_tensors="tf")


def test_the_object_does_what_the_function_does() -> None:
    collator = DefaultDataCollator(return_tensors="np")
    assert isinstance(collator([{"x": 1}])["x"], np.ndarray)
    assert isinstance(collator([{"x": 1}], return_tensors="pt")["x"], torch.Tensor)
    assert isinstance(DefaultDataCollator()([{"x": 1}])["x"], torch.Tensor)
