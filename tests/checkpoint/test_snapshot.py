"""Is a copy of the state independent of the training, complete, and made without new memory from the second time on?"""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from etude.checkpoint.snapshot import HostBuffers, is_copyable, size_in_bytes, tensors_in
from tests.properties import quick

Pair = namedtuple("Pair", ["first", "second"])

numbers = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3)
keys = st.integers(0, 9) | st.text(max_size=3)
shapes = st.lists(st.integers(0, 3), max_size=3)
tensors = st.builds(
    lambda shape, dtype: torch.randn(shape).mul(9).to(dtype),
    shapes,
    st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64]),
)
values = st.recursive(
    numbers | tensors,
    lambda inner: (
        st.dictionaries(keys, inner, max_size=4)
        | st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(Pair, inner, inner)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            type(one) is type(other)
            and list(one) == list(other)
            and all(equal(one[key], other[key]) for key in one)
        )
    if isinstance(one, (list, tuple)):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(equal(*pair) for pair in zip(one, other, strict=True))
        )
    return bool(one == other)


def addresses(value: Any) -> list[int]:
    return [tensor.data_ptr() for _, tensor in tensors_in((), value)]


def frozen(value: Any) -> Any:
    """A copy by other means."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return type(value)({key: frozen(item) for key, item in value.items()})
    if isinstance(value, Pair):
        return Pair(*map(frozen, value))
    return type(value)(map(frozen, value)) if isinstance(value, (list, tuple)) else value


@quick
@given(values)
def test_a_copy_survives_whatever_happens_to_the_original(value: Any) -> None:
    assert is_copyable(value)
    before = frozen(value)
    copied = HostBuffers().copy("state", value)
    assert equal(copied, value)
    for _, tensor in tensors_in((), value):
        tensor.zero_()
    assert equal(copied, before)


@quick
@given(values)
def test_the_second_copy_takes_no_memory(value: Any) -> None:
    buffers = HostBuffers()
    first = addresses(buffers.copy("state", value))
    buffers.begin()
    assert buffers.missing_bytes("state", value) == 0
    assert addresses(buffers.copy("state", value)) == first


@quick
@given(values)
def test_missing_bytes_are_those_of_the_copy(value: Any) -> None:
    buffers = HostBuffers()
    assert buffers.missing_bytes("state", value) == size_in_bytes(value)
    buffers.copy("state", value)
    assert buffers.missing_bytes("state", value) == 0
    assert buffers.missing_bytes("other", value) == size_in_bytes(value)
    buffers.release()
    assert buffers.missing_bytes("state", value) == size_in_bytes(value)


def test_keys_that_look_alike_have_memory_of_their_own() -> None:
    value = {
        1: torch.tensor([1.0]),
        "1": torch.tensor([2.0]),
        "a/b": torch.ones(1),
        "a": {"b": torch.zeros(1)},
    }
    assert equal(HostBuffers().copy("state", value), value)


def test_shared_tensors_stay_shared_and_are_counted_once() -> None:
    weight = torch.randn(4, 4)
    value = {"embedding": weight, "head": weight, "turned": weight.t()}
    buffers = HostBuffers()
    assert buffers.missing_bytes("state", value) == 64
    copied = buffers.copy("state", value)
    assert copied["embedding"] is copied["head"]
    assert equal(copied, value)


def test_memory_that_is_used_again_by_another_tensor_is_not_shared() -> None:
    """Two values that never lived at the same time may lie at the same address."""
    buffers = HostBuffers()
    memory = torch.ones(3)
    first = buffers.copy("first", [memory])
    second = buffers.copy("second", [memory.mul_(2)])
    assert first[0].tolist() == [1, 1, 1]
    assert second[0].tolist() == [2, 2, 2]


def test_views_are_copied_alone_and_keep_their_layout() -> None:
    big = torch.randn(2, 3, 4, 5)
    value = [
        big[0],
        big.permute(0, 3, 1, 2),
        big.to(memory_format=torch.channels_last),
        torch.ones(1).expand(6),
    ]
    copied = HostBuffers().copy("state", value)
    assert equal(copied, value)
    assert [item.stride() for item in copied[:3]] == [item.stride() for item in value[:3]]
    assert copied[0].untyped_storage().nbytes() == 3 * 4 * 5 * 4


def test_a_tensor_of_another_shape_gets_other_memory_and_what_is_gone_is_forgotten() -> None:
    buffers = HostBuffers()
    buffers.copy("state", {"a": torch.ones(3), "b": torch.ones(5)})
    buffers.begin()
    assert buffers.copy("state", {"a": torch.zeros(4)})["a"].tolist() == [0] * 4
    buffers.begin()
    assert buffers.missing_bytes("state", {"a": torch.ones(4), "b": torch.ones(5)}) == 20


def test_dictionaries_keep_their_kind_and_what_hangs_on_them() -> None:
    state = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict()
    value = {"model": state, "by default": defaultdict(list, {"a": [torch.ones(1)]})}
    copied = HostBuffers().copy("state", value)
    assert copied["model"]._metadata == state._metadata  # type: ignore[attr-defined]
    assert copied["by default"].default_factory is list
    assert copied["by default"]["a"][0] is not value["by default"]["a"][0]


def test_a_parameter_becomes_a_plain_tensor() -> None:
    copied = HostBuffers().copy("state", [nn.Parameter(torch.ones(2))])[0]
    assert type(copied) is torch.Tensor
    assert not copied.requires_grad


class Wrapped(torch.Tensor):
    """A tensor that may hold anything, as distributed and quantised ones do."""


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are going out of use
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


OBSCURE: dict[str, Callable[[], Any]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "quantised": quantised,
    "meta": lambda: torch.ones(2, device="meta"),
    "subclass": lambda: torch.ones(2).as_subclass(Wrapped),
    "numpy": lambda: np.ones(2),
    "object": object,
    "set": lambda: {1, 2},
    "function": lambda: print,
}


@pytest.mark.parametrize("name", OBSCURE)
def test_what_may_hide_something_is_not_copyable(name: str) -> None:
    value = OBSCURE[name]()
    assert not is_copyable(value)
    assert not is_copyable({"deep": [(value,)]})
