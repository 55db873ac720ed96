"""What is said of arguments that changed, and does it hold?"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etude import Seq2SeqTrainingArguments, TrainingArguments
from etude.checkpoint import changes
from etude.checkpoint.changes import DECIDED, TABLE, Change, Effect, report
from etude.errors import CheckpointError
from tests import helpers
from tests.contracts.resuming import BASE, Result, Scenario, finish


def effect(name: str, before: Any, now: Any, **others: Any) -> Effect:
    """What the change of one argument means, with others that have not changed."""
    base = json.loads(TrainingArguments("out", **others).to_json_string())
    (found,) = changes.changes({**base, name: before}, {**base, name: now})
    assert found == Change(name, before, now, found.effect)
    return found.effect


def test_every_argument_is_in_the_table_once() -> None:
    fields = {f.name for f in dataclasses.fields(Seq2SeqTrainingArguments) if f.init}
    assert fields == {*TABLE, *DECIDED}
    assert not set(TABLE) & set(DECIDED)
    kinds = (changes.HARMLESS, changes.KEPT, changes.CHANGES, changes.NEW_ORDER, changes.NEW_OPTIMIZER)
    assert len(TABLE) == sum(map(len, kinds))


@pytest.mark.parametrize(
    ("name", "before", "now", "others", "expected"),
    [
        ("optim", "adamw_torch", "sgd", {}, Effect.NEW_OPTIMIZER),
        ("optim", "adamw_torch", "adamw_torch_fused", {}, Effect.KEPT),
        ("optim", "adamw_torch", "sgd", {"resume_with_fresh_optimizer": True}, Effect.CHANGES),
        ("learning_rate", 0.1, 0.2, {}, Effect.KEPT),
        ("learning_rate", 0.1, 0.2, {"resume_with_fresh_optimizer": True}, Effect.CHANGES),
        ("lr_scheduler_type", "linear", "cosine", {}, Effect.CHANGES),
        ("lr_scheduler_type", "linear", "greedy", {}, Effect.NEW_OPTIMIZER),
        ("seed", 1, 2, {}, Effect.NEW_ORDER),
        ("seed", 1, 2, {"data_seed": 5}, Effect.CHANGES),
        ("seed", 1, 2, {"train_sampling_strategy": "sequential"}, Effect.CHANGES),
        ("seed", 1, 2, {"ignore_data_skip": True}, Effect.CHANGES),
        ("data_seed", None, 42, {}, Effect.CHANGES),
        ("data_seed", None, 43, {}, Effect.NEW_ORDER),
        ("per_device_train_batch_size", 8, 4, {}, Effect.CHANGES),
        (
            "per_device_train_batch_size",
            8,
            4,
            {"train_sampling_strategy": "group_by_length"},
            Effect.NEW_ORDER,
        ),
        ("length_column_name", "length", "size", {}, Effect.HARMLESS),
        (
            "length_column_name",
            "length",
            "size",
            {"train_sampling_strategy": "group_by_length"},
            Effect.NEW_ORDER,
        ),
    ],
)
def test_what_a_change_means(
    name: str, before: Any, now: Any, others: dict[str, Any], expected: Effect
) -> None:
    assert effect(name, before, now, **others) is expected


def test_a_global_batch_that_is_cut_otherwise_is_harmless() -> None:
    base = json.loads(TrainingArguments("out", per_device_train_batch_size=8).to_json_string())
    cut = {**base, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    found = changes.changes({**base, "world_size": 1}, {**cut, "world_size": 2})
    assert {change.effect for change in found} == {Effect.HARMLESS}
    assert {change.name for change in found} == {"per_device_train_batch_size", "gradient_accumulation_steps"}


def test_an_argument_of_a_subclass_is_taken_to_change_the_run() -> None:
    (found,) = changes.changes({"beta": 0.1, "gone": 1}, {"beta": 0.2, "new": 1})
    assert found == Change("beta", 0.1, 0.2, Effect.CHANGES)


def test_tokens_are_never_shown() -> None:
    assert changes.changes({"hub_token": "a", "my_token": "b"}, {"hub_token": "c", "my_token": "d"}) == []


def test_the_report_says_what_matters() -> None:
    found = [
        Change("num_train_epochs", 3, 5, Effect.CHANGES),
        Change("weight_decay", 0.0, 0.01, Effect.KEPT),
        Change("label_names", ["labels"], None, Effect.CHANGES),
        Change("run_name", "a", "b", Effect.HARMLESS),
        Change("logging_steps", 1, 2, Effect.HARMLESS),
    ]
    assert report("runs/checkpoint-400", found) == (
        "Arguments changed since checkpoint-400\n"
        "  num_train_epochs  3 -> 5              changes the run\n"
        "  weight_decay      0.0 -> 0.01         no effect: the optimizer goes on as it was saved\n"
        '  label_names       ["labels"] -> null  changes the run\n'
        "  and 2 harmless ones"
    )
    assert report("checkpoint-400", found[3:]) is None
    assert report("checkpoint-400", []) is None
    assert (report("checkpoint-400", found[:1] + found[3:4]) or "").endswith("and 1 harmless one")


def test_what_is_impossible_is_an_error_with_the_ways_out() -> None:
    found = [
        Change("seed", 1, 2, Effect.NEW_ORDER),
        Change("optim", "sgd", "adafactor", Effect.NEW_OPTIMIZER),
        Change("max_steps", 1, 2, Effect.CHANGES),
    ]
    with pytest.raises(CheckpointError) as raised:
        report("runs/checkpoint-400", found)
    assert str(raised.value).splitlines() == [
        "checkpoint-400 cannot be gone on from with these arguments. Put them back, or begin the data of its epoch "
        "anew with ignore_data_skip=True and begin with a new optimizer with resume_with_fresh_optimizer=True.",
        "  seed   1 -> 2            another order of samples",
        "  optim  sgd -> adafactor  another optimizer",
    ]


# --- in a run -----------------------------------------------------------------------------------------------------

SCENARIO: Scenario = replace(BASE, rows=lambda: helpers.feature_rows(24)).having(
    num_train_epochs=2, save_steps=4, eval_strategy="no", logging_steps=1
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The uninterrupted run, and its checkpoint in the middle of the second epoch."""
    folder = tmp_path_factory.mktemp("whole")
    return finish(SCENARIO, folder), folder / "checkpoint-4"


def resumed(whole: tuple[Result, Path], folder: Path, **arguments: Any) -> Result:
    shutil.copytree(whole[1], folder / "checkpoint-4")
    return finish(SCENARIO.having(**arguments), folder, resume=True)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "Arguments changed" in r.getMessage()]


def test_a_run_with_the_same_arguments_says_nothing(
    whole: tuple[Result, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resumed(whole, tmp_path)  # in another output folder, which is harmless
    assert said(caplog) == []


def test_what_has_no_effect_has_none_and_is_said(
    whole: tuple[Result, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = resumed(
        whole,
        tmp_path,
        learning_rate=0.7,
        weight_decay=0.5,
        adam_beta1=0.1,
        adam_epsilon=1.0,
        optim="adamw_torch",
    )
    helpers.assert_identical(found.weights, whole[0].weights)
    assert found.rows[:-1] == whole[0].rows[:-1]
    assert said(caplog)[0].count("no effect") == 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"logging_steps": 2, "save_steps": 3, "run_name": "other", "logging_first_step": True},
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
        {"dataloader_pin_memory": False, "save_in_background": False},
    ],
    ids=lambda arguments: ",".join(arguments),
)
def test_what_is_harmless_changes_nothing(
    arguments: dict[str, Any], whole: tuple[Result, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = replace(SCENARIO, model=helpers.DictClassifier, collator=None)
    first = finish(quiet, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "checkpoint-4", tmp_path / "checkpoint-4")
    found = finish(quiet.having(**arguments), tmp_path, resume=True)
    assert helpers.relative_difference(found.weights, first.weights) < 1e-6
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"seed": 8}, "seed"),
        ({"optim": "sgd"}, "optim"),
        ({"train_sampling_strategy": "sequential"}, "train_sampling"),
    ],
)
def test_what_is_impossible_stops_before_any_training(
    arguments: dict[str, Any], name: str, whole: tuple[Result, Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=f"(?s)checkpoint-4 cannot be gone on from.*{name}"):
        resumed(whole, tmp_path, **arguments)
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize(
    "arguments",
    [{"seed": 8, "ignore_data_skip": True}, {"optim": "sgd", "resume_with_fresh_optimizer": True}],
    ids=["seed", "optim"],
)
def test_the_way_out_is_one(arguments: dict[str, Any], whole: tuple[Result, Path], tmp_path: Path) -> None:
    assert resumed(whole, tmp_path, **arguments).output.global_step == 6
