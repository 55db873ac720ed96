"""Are accelerate's options understood, and those that cannot be honoured refused?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from etude import TrainingArguments
from etude.arguments.accelerate import AcceleratorConfig
from etude.errors import ConfigurationError, UnsupportedOptionError
from tests import helpers


def config_of(value: Any, **given: Any) -> AcceleratorConfig:
    config = TrainingArguments("x", accelerator_config=value, **given).accelerator_config
    assert isinstance(config, AcceleratorConfig)
    return config


def test_options_are_those_of_the_reference() -> None:
    from transformers.trainer_pt_utils import AcceleratorConfig as Theirs

    assert {f.name: f.default for f in dataclasses.fields(Theirs)} == {
        f.name: f.default for f in dataclasses.fields(AcceleratorConfig)
    }


def test_they_come_in_many_forms(tmp_path: Path) -> None:
    from transformers.trainer_pt_utils import AcceleratorConfig as Theirs

    options = {"even_batches": False, "non_blocking": True}
    file = tmp_path / "options.json"
    file.write_text(json.dumps(options))
    for value in (
        options,
        json.dumps(options),
        str(file),
        file,
        AcceleratorConfig(**options),
        Theirs(**options),
    ):
        assert config_of(value) == AcceleratorConfig(even_batches=False, non_blocking=True)
    assert AcceleratorConfig.from_json_file(file) == AcceleratorConfig(**options)
    assert config_of(None) == AcceleratorConfig()


def test_they_can_be_changed_and_read_like_the_reference() -> None:
    args = TrainingArguments("x")
    args.accelerator_config.dispatch_batches = False
    assert args.to_dict()["accelerator_config"]["dispatch_batches"] is False
    assert TrainingArguments(**args.to_dict()).accelerator_config == args.accelerator_config


@pytest.mark.parametrize("name", ["transformers", "etude"])
def test_accumulation_can_be_said_here(name: str, tmp_path: Path) -> None:
    with helpers.library(name) as lib:
        args = helpers.training_arguments(
            lib, tmp_path, accelerator_config={"gradient_accumulation_kwargs": {"num_steps": 3}}, max_steps=1
        )
        trainer = lib.Trainer(helpers.DictClassifier(), args, train_dataset=helpers.feature_rows(12))
        trainer.train()
    assert trainer.args.gradient_accumulation_steps == 3
    assert trainer.state.epoch == 1.0


def test_accumulation_said_twice_must_agree() -> None:
    options = {"gradient_accumulation_kwargs": {"num_steps": 3}}
    with pytest.raises(ConfigurationError, match="`gradient_accumulation_steps` is 2"):
        config_of(options, gradient_accumulation_steps=2)
    args = TrainingArguments("x", accelerator_config=options)
    assert dataclasses.replace(args, seed=1).gradient_accumulation_steps == 3


@pytest.mark.parametrize(
    "options",
    [
        {"split_batches": True},
        {"dispatch_batches": True},
        {"use_seedable_sampler": False},
        {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
    ],
)
def test_what_cannot_be_honoured_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOptionError, match=next(reversed(str(options).split("'")[1::2]))):
        config_of(options)


@pytest.mark.parametrize(
    ("value", "culprit"),
    [
        ({"split_batch": True}, "split_batch"),
        (AcceleratorConfig, r"AcceleratorConfig\(\)"),
        ("nowhere.json", "nowhere.json"),
    ],
)
def test_what_cannot_be_read_is_refused(value: Any, culprit: str) -> None:
    with pytest.raises(ConfigurationError, match=culprit):
        config_of(value)


def test_a_file_must_hold_options(tmp_path: Path) -> None:
    for text, culprit in (("[1]", "dictionary"), ("{", "JSON"), ('{"batches": 1}', "batches")):
        (tmp_path / "options.json").write_text(text)
        with pytest.raises(ConfigurationError, match=culprit):
            config_of(str(tmp_path / "options.json"))


@pytest.mark.parametrize(("size", "kind"), [(1, "NO"), (2, "MULTI_CPU")])
def test_the_state_of_the_process_is_told_in_accelerates_words(
    size: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": size}.items():
        monkeypatch.setenv(name, str(value))
    state = TrainingArguments("x", use_cpu=True).distributed_state
    assert (state.distributed_type, state.num_processes, state.is_main_process) == (kind, size, True)


def test_the_state_can_be_replaced() -> None:
    args = TrainingArguments("x")
    args.distributed_state = state = object()
    assert args.distributed_state is state


@pytest.mark.parametrize(
    ("given", "precision"), [({}, "no"), ({"bf16": True}, "bf16"), ({"fp16": True}, "fp16")]
)
def test_precision_has_accelerates_name(given: dict[str, bool], precision: str) -> None:
    assert TrainingArguments("x", use_cpu=True, **given).mixed_precision == precision
