"""Do tensors keep their nesting, whatever is done to them?"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.core import nested
from etude.errors import DataError
from tests.properties import quick


class Pair(NamedTuple):
    """What a model may return."""

    first: Any
    second: Any


leaves = (
    st.integers(1, 4).map(lambda n: torch.arange(n * 2.0).reshape(n, 2)) | st.none() | st.text(max_size=2)
)
trees = st.recursive(
    leaves,
    lambda part: (
        st.lists(part, max_size=3)
        | st.lists(part, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), part, max_size=3)
        | st.tuples(part, part).map(lambda items: Pair(*items))
    ),
    max_leaves=6,
)


def shape_of(value: Any) -> Any:
    """The nesting with each leaf replaced by its kind."""
    if isinstance(value, dict):
        return type(value), {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [shape_of(item) for item in value]
    return tuple(value.shape) if hasattr(value, "shape") else value


@quick
@given(trees)
def test_the_nesting_stays(tree: Any) -> None:
    assert shape_of(nested.apply(lambda leaf: leaf + 1, tree)) == shape_of(tree)
    assert shape_of(nested.to_numpy(tree)) == shape_of(tree)


@quick
@given(trees)
def test_every_tensor_is_reached_once(tree: Any) -> None:
    seen: list[int] = []
    nested.apply(lambda leaf: seen.append(id(leaf)) or leaf, tree)
    kinds = str(shape_of(tree))
    assert len(seen) == kinds.count(", 2)")


def test_models_outputs_stay_what_they_are() -> None:
    from transformers.modeling_outputs import SequenceClassifierOutput

    output = SequenceClassifierOutput(logits=torch.ones(2, 3), hidden_states=(torch.ones(1), torch.ones(2)))
    found = nested.apply(lambda leaf: leaf * 2, output)
    assert type(found) is SequenceClassifierOutput
    assert list(found) == ["logits", "hidden_states"]
    assert found.logits.sum() == 12
    assert found.hidden_states[1].sum() == 4


def test_ordered_dictionaries_keep_their_order() -> None:
    found = nested.apply(lambda leaf: leaf, OrderedDict(b=torch.ones(1), a=torch.ones(2)))
    assert list(found) == ["b", "a"]
    assert type(found) is OrderedDict


def test_detaching_cuts_the_graph() -> None:
    weight = torch.ones(2, requires_grad=True)
    found = nested.detach({"a": (weight * 2,)})
    assert not found["a"][0].requires_grad


def test_bfloat16_becomes_float32_on_the_host() -> None:
    found = nested.to_numpy([torch.tensor([1.5], dtype=torch.bfloat16), torch.tensor([2], dtype=torch.int16)])
    assert [array.dtype for array in found] == [np.float32, np.int16]
    assert found[0].tolist() == [1.5]


@quick
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=5), st.integers(1, 3))
def test_joining_fills_up_the_second_dimension(sizes: list[tuple[int, int]], depth: int) -> None:
    parts = [np.random.default_rng(i).random((n, w, depth)) for i, (n, w) in enumerate(sizes)]
    joined = nested.concatenate(parts)
    assert joined.shape == (sum(n for n, _ in sizes), max(w for _, w in sizes), depth)
    row = 0
    for part in parts:
        rows = joined[row : row + len(part)]
        assert np.array_equal(rows[:, : part.shape[1]], part)
        assert (rows[:, part.shape[1] :] == -100).all()
        row += len(part)


def test_joining_keeps_the_nesting() -> None:
    part = {"a": (np.ones((2, 3)), [np.zeros(2)])}
    joined = nested.concatenate([part, part])
    assert shape_of(joined) == (dict, {"a": (tuple, [(4, 3), (list, [(4,)])])})


def test_joining_keeps_named_tuples() -> None:
    part = Pair(np.ones((2, 3)), np.zeros(2))
    joined = nested.concatenate([part, part])
    assert type(joined) is Pair
    assert joined.first.shape == (4, 3)


def test_joining_numbers_makes_a_list_of_them() -> None:
    assert nested.concatenate([np.float32(1), np.array(2.0)]).tolist() == [1.0, 2.0]


def test_lists_with_an_entry_a_sample_are_strung_together() -> None:
    first = ([np.ones((2, 4)), np.ones((1, 4))], [{"boxes": np.zeros((3, 4))}, {"boxes": np.zeros((0, 4))}])
    last = ([np.ones((5, 4))], [{"boxes": np.zeros((1, 4))}])
    masks, targets = nested.concatenate([first, last], lists_of_samples=True)
    assert [len(mask) for mask in masks] == [2, 1, 5]
    assert [len(target["boxes"]) for target in targets] == [3, 0, 1]


def test_lists_are_joined_entry_by_entry_until_their_length_changes() -> None:
    """A model's list has an entry for each of its layers, as a rule, and their number does not change."""
    layers = [np.zeros((2, 3)), np.ones((2, 3))]
    assert [layer.shape for layer in nested.concatenate([layers, layers])] == [(4, 3), (4, 3)]
    assert [len(item) for item in nested.concatenate([layers, layers[:1]])] == [2, 2, 2]


def test_joining_nothing_gives_nothing() -> None:
    assert nested.concatenate([(None, np.ones(1)), (None, np.ones(2))])[0] is None


@pytest.mark.parametrize(
    "parts",
    [
        [np.ones((2, 3, 8, 8)), np.ones((1, 3, 9, 8))],
        [np.ones((2, 3)), np.ones((2, 3, 4))],
        [(np.ones(1),), (np.ones(1), np.ones(1))],
    ],
)
def test_what_cannot_be_joined_is_said_with_the_way_out(parts: list[Any]) -> None:
    with pytest.raises(DataError, match=r"cannot be joined: set `eval_do_concat_batches=False`"):
        nested.concatenate(parts)


def test_objects_are_left_out_of_what_is_kept() -> None:
    kept = nested.without_objects({"logits": torch.ones(1), "cache": object(), "more": (None, 2.5, "text")})
    assert kept == {"logits": torch.ones(1), "cache": None, "more": (None, 2.5, "text")}


def test_joining_leaves_the_parts_alone() -> None:
    parts = [np.ones((1, 2)), np.ones((1, 4))]
    nested.concatenate(parts)
    assert [part.shape for part in parts] == [(1, 2), (1, 4)]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"a": "text", "b": torch.ones(3, 2)}, 3),
        ([[], {"x": np.ones((4, 1))}], 4),
        (torch.ones(()), None),
        ({"flag": torch.ones(()), "x": torch.ones(5)}, 5),
        ({"images": [torch.ones(3, 8, 8), torch.ones(3, 9, 7)], "targets": [{}, {}]}, 2),
        ({"names": ["a", "b"], "x": torch.ones(5)}, 5),
        ({"names": ["a", "b"]}, None),
        ({}, None),
        ("text", None),
    ],
)
def test_the_batch_size_is_the_first_length_found(value: Any, size: int | None) -> None:
    assert nested.batch_size(value) == size
