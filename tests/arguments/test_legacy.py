"""Are older names understood, and unknown ones answered with the right one?"""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from etude import TrainingArguments
from etude.arguments.legacy import RENAMED, suggestion
from etude.errors import UnknownArgumentError

VALUES: dict[str, Any] = {
    "evaluation_strategy": "epoch",
    "no_cuda": True,
    "per_gpu_train_batch_size": 3,
    "per_gpu_eval_batch_size": 5,
    "warmup_ratio": 0.25,
    "push_to_hub_token": "secret",
}
REFUSED = {"push_to_hub_model_id"}  # its new name is an option that is not offered


def test_every_renaming_is_tried_here() -> None:
    assert set(RENAMED) == set(VALUES) | REFUSED


@pytest.mark.parametrize("old", VALUES)
def test_an_older_name_is_taken_with_one_warning(old: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        args = TrainingArguments("x", **{old: VALUES[old]})
    assert args == TrainingArguments("x", **{RENAMED[old]: VALUES[old]})
    assert [w.category for w in caught] == [FutureWarning]
    assert f"`{old}`" in str(caught[0].message)
    assert f"`{RENAMED[old]}`" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_older_and_newer_name_together_are_an_error() -> None:
    with pytest.raises(UnknownArgumentError, match="give only `eval_strategy`"):
        TrainingArguments("x", evaluation_strategy="epoch", eval_strategy="epoch")


def test_a_share_of_warmup_keeps_its_meaning() -> None:
    with pytest.warns(FutureWarning, match="warmup_steps"):
        args = TrainingArguments("x", warmup_ratio=0.1)
    assert args.get_warmup_steps(1000) == 100


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("learning_rat", "learning_rate"),
        ("per_device_batch_size", "per_device_train_batch_size"),
        ("evalutaion_strategy", "evaluation_strategy"),
        ("gradient_acumulation_steps", "gradient_accumulation_steps"),
        ("num_epochs", "num_train_epochs"),
    ],
)
def test_a_misspelling_is_answered_with_the_name(misspelt: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"'{misspelt}'.*'{meant}'"):
        TrainingArguments("x", **{misspelt: 1})


def test_a_name_that_resembles_none_is_answered_without_a_guess() -> None:
    with pytest.raises(UnknownArgumentError, match=r"'zzz'\.$"):
        TrainingArguments("x", zzz=1)


@pytest.mark.parametrize("gone", ["overwrite_output_dir", "adafactor", "fp16_backend", "group_by_length"])
def test_names_whose_meaning_is_gone_are_not_taken_silently(gone: str) -> None:
    with pytest.raises(UnknownArgumentError, match=gone):
        TrainingArguments("x", **{gone: True})


def test_suggestions_are_the_closest_three() -> None:
    assert suggestion("abcd", ["abce", "abcf", "abcg", "abch"]).count(" or ") == 2
    assert suggestion("abcd", ["xyz"]) == ""
