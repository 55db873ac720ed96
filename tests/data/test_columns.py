"""Which columns reach the model, and are those left out named?"""

from __future__ import annotations

import logging
from typing import Any

import datasets
import pytest
import torch
from torch import nn

from etude.data import columns
from etude.errors import DataError
from tests import helpers


class Named(nn.Module):
    """Names what it takes."""

    def forward(self, a: Any, b: Any = None, labels: Any = None) -> Any:
        return a


class NamedAndMore(nn.Module):
    """Names some, takes any."""

    def forward(self, a: Any, *rest: Any, **kwargs: Any) -> Any:
        return a


class Anything(nn.Module):
    """Takes any."""

    def forward(self, **kwargs: Any) -> Any:
        return kwargs


class Positional(nn.Module):
    """Takes any by position."""

    def forward(self, *args: Any) -> Any:
        return args


@pytest.mark.parametrize(
    ("model", "labels", "wanted"),
    [
        (Named(), ["labels"], ["a", "b", "labels", "label", "label_ids"]),
        (Named(), ["target"], ["a", "b", "labels", "label", "label_ids", "target"]),
        (NamedAndMore(), [], ["a", "label", "label_ids"]),
        (Anything(), ["labels"], None),
        (Positional(), [], None),
    ],
)
def test_forward_says_what_is_wanted(model: nn.Module, labels: list[str], wanted: list[str] | None) -> None:
    assert columns.wanted_columns(model, labels) == wanted


@pytest.mark.parametrize("make", [helpers.bert_classifier, helpers.gpt2_model, Named, NamedAndMore])
def test_what_is_wanted_is_what_the_reference_keeps(make: Any, tmp_path: Any) -> None:
    model = make()
    with helpers.library("transformers") as lib:
        theirs = lib.Trainer(model, helpers.training_arguments(lib, tmp_path))
        theirs._set_signature_columns_if_needed()
    variadic = {"kwargs", "rest"}  # the reference takes their names for columns
    assert (
        set(columns.wanted_columns(model, theirs.label_names) or [])
        == {*theirs._signature_columns} - variadic
    )


def table(**values: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict(values)


def test_unused_columns_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = columns.without_unused_columns(table(a=[1], text=["x"], id=[2]), ["a"], "training")
    assert found.column_names == ["a"]
    assert "training set" in caplog.text
    assert "text, id" in caplog.text


def test_nothing_is_said_where_all_columns_are_used(caplog: pytest.LogCaptureFixture) -> None:
    dataset = table(a=[1])
    with caplog.at_level(logging.INFO):
        assert columns.without_unused_columns(dataset, ["a", "b"], "training") is dataset
    assert not caplog.records


def test_no_column_at_all_is_an_error_that_names_both_sides() -> None:
    with pytest.raises(
        DataError, match="evaluation set.*it has x, y.*takes a, b.*remove_unused_columns=False"
    ):
        columns.without_unused_columns(table(x=[1], y=[2]), ["a", "b"], "evaluation")


def test_tables_are_told_from_other_data() -> None:
    assert columns.is_arrow_dataset(table(a=[1]))
    assert not columns.is_arrow_dataset(table(a=[1]).to_iterable_dataset())
    assert not columns.is_arrow_dataset([{"a": 1}])


def test_the_collator_leaves_columns_out_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    samples = [{"a": 1, "text": "x"}, {"a": 2, "text": "y"}]
    collator = columns.RemoveColumnsCollator(list, ["a"], "training")
    with caplog.at_level(logging.INFO):
        assert [collator(samples) for _ in range(3)] == [[{"a": 1}, {"a": 2}]] * 3
    assert samples[0] == {"a": 1, "text": "x"}
    (record,) = caplog.records
    assert "training" in record.getMessage()
    assert "text" in record.getMessage()


def test_the_collator_leaves_samples_that_are_no_mappings_alone() -> None:
    row = torch.ones(2)
    assert columns.RemoveColumnsCollator(list, ["a"], "training")([row])[0] is row
