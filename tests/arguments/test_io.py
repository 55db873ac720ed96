"""Do arguments survive the way into plain values and back?"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude import IntervalStrategy, TrainingArguments
from etude.arguments import io
from etude.errors import ConfigurationError
from tests import helpers
from tests.properties import quick


def arguments(**fields: Any) -> TrainingArguments:
    return TrainingArguments("x", use_cpu=True, **fields)


def test_a_dictionary_makes_the_same_arguments_again() -> None:
    args = arguments(eval_strategy="steps", lr_scheduler_type="cosine", lr_scheduler_kwargs={"num_cycles": 2})
    assert TrainingArguments(**args.to_dict()) == args


def test_json_makes_the_same_arguments_again() -> None:
    args = arguments(save_strategy="epoch", learning_rate=0.1 + 0.2, label_names=["a"], logging_steps=0.1)
    assert TrainingArguments(**json.loads(args.to_json_string())) == args


def test_plain_values_are_those_of_the_reference() -> None:
    dictionaries = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            dictionaries.append(helpers.training_arguments(lib, "x", eval_strategy="epoch").to_dict())
    theirs, ours = dictionaries
    different = {
        key for key in theirs if key != "restore_callback_states_from_checkpoint" and theirs[key] != ours[key]
    }
    # the reference masks tokens that are not there
    assert different == {
        "accelerator_config",  # the reference drops one of its entries
        "hub_token",
    }


def test_tokens_are_masked() -> None:
    args = arguments(hub_token="secret")
    assert args.to_dict()["hub_token"] == "<HUB_TOKEN>"
    for text in (repr(args), str(args), args.to_json_string(), str(args.to_sanitized_dict())):
        assert "secret" not in text
        assert "<HUB_TOKEN>" in text


def test_text_has_one_argument_a_line_in_order() -> None:
    lines = repr(arguments(learning_rate=0.25)).splitlines()
    assert (lines[0], lines[-1]) == ("TrainingArguments(", ")")
    assert lines[1:-1] == sorted(lines[1:-1])
    assert "learning_rate=0.25," in lines


def test_sanitized_values_suit_trackers() -> None:
    values = arguments(label_names=["a"]).to_sanitized_dict()
    assert {type(value) for value in values.values()} <= {bool, int, float, str}
    assert values["label_names"] == "['a']"
    assert values["train_batch_size"] == 8


def test_json_text_in_a_field_is_read() -> None:
    args = arguments(lr_scheduler_type="cosine", lr_scheduler_kwargs='  {"num_cycles": "2"}')
    assert args.lr_scheduler_kwargs == {"num_cycles": 2}


def test_bad_json_names_the_field() -> None:
    with pytest.raises(ConfigurationError, match="lr_scheduler_kwargs.*JSON"):
        arguments(lr_scheduler_kwargs="{num_cycles: 2}")


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("7", 7), ("-2", -2), ("1e-3", 1e-3), ("adam", "adam"), ("", "")],
)
def test_text_becomes_what_it_means(text: str, value: Any) -> None:
    found = io.coerce({"a": [text]})["a"][0]
    assert found == value
    assert type(found) is type(value)


@quick
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False), st.lists, max_leaves=8
    )
)
def test_coercing_leaves_what_is_no_text_alone(value: Any) -> None:
    assert io.coerce(value) == value


def test_everything_becomes_plain() -> None:
    value = {"a": (IntervalStrategy.NO, torch.bfloat16), "b": [arguments(seed=3)]}
    found = io.plain(value)
    assert found["a"] == ["no", "bfloat16"]
    assert type(found["a"][0]) is str
    assert found["b"][0]["seed"] == 3


def test_what_json_cannot_hold_becomes_text() -> None:
    args = arguments(lr_scheduler_kwargs={"num_cycles": np.float32(0.5)}, lr_scheduler_type="cosine")
    assert json.loads(args.to_json_string())["lr_scheduler_kwargs"] == {"num_cycles": "0.5"}
