"""Are checkpoints the reference's: the same files, the same state, each able to resume from the other's?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import helpers
from tests.parity.runner import (
    BERT,
    DICT,
    GPT2,
    LIBRARIES,
    Case,
    assert_same_rows,
    assert_same_weights,
    build_trainer,
    run,
)

OWN_FILES = {"training_args.json", "etude_state.json", "manifest.json"}
SAVING = {"save_strategy": "steps", "save_steps": 3, "logging_steps": 2}
WINDOWS = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
STATEFUL = {
    "eval_strategy": "steps",
    "eval_steps": 3,
    "metric_for_best_model": "accuracy",
    "save_total_limit": 3,
}


def files_under(folder: Path) -> set[str]:
    """Relative paths of all files under ``folder``."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def tiny_tokenizer() -> Any:
    """A word-level tokenizer built in memory."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i for i in range(2, helpers.VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


FILE_CASES: dict[str, Callable[[], Case]] = {
    "bert": lambda: BERT.having(**SAVING),
    "gpt2": lambda: GPT2.having(**SAVING, **WINDOWS),
    "plain": lambda: DICT.having(**SAVING),
    "only-model": lambda: DICT.having(**SAVING, save_only_model=True),
    "limit": lambda: DICT.having(**SAVING, save_total_limit=2),
    "limit-and-best": lambda: DICT.having(
        **{**SAVING, **STATEFUL, "save_total_limit": 1, "learning_rate": 0.5}, load_best_model_at_end=True
    ),
    "tokenizer": lambda: replace(
        BERT.having(**SAVING), collator=None, trainer_options={"processing_class": tiny_tokenizer()}
    ),
}


@pytest.mark.parametrize("name", FILE_CASES)
def test_files_equal_the_reference(name: str, tmp_path: Path) -> None:
    """The output folder holds the same files; étude adds its own beside them."""
    files = {}
    for library in LIBRARIES:
        outcome = run(library, FILE_CASES[name](), tmp_path)
        outcome.trainer.save_model()
        outcome.trainer.save_state()
        files[library] = files_under(tmp_path / library)
    assert files["transformers"] <= files["etude"]
    added = files["etude"] - files["transformers"]
    assert {Path(path).name for path in added} <= {*OWN_FILES, "log.jsonl"}
    assert {path for path in added if Path(path).name == "log.jsonl"} == {"log.jsonl"}


def read_state(folder: Path) -> dict[str, Any]:
    """The trainer state of the only or last checkpoint in ``folder``."""
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())


@pytest.mark.parametrize(
    "case", [DICT.having("state", **SAVING), GPT2.having("best", **SAVING, **STATEFUL)], ids=str
)
def test_trainer_state_equals_the_reference(case: Case, tmp_path: Path) -> None:
    """``trainer_state.json`` has the same keys, nested ones too, and the same values where no path is in them."""
    states = {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            patience = (
                [lib.EarlyStoppingCallback(early_stopping_patience=9)]
                if "eval_strategy" in case.arguments
                else []
            )
        run(name, case, tmp_path, callbacks=patience)
        states[name] = read_state(tmp_path / name)
    ours, theirs = states["etude"], states["transformers"]
    assert ours.keys() == theirs.keys()
    assert ours.pop("stateful_callbacks") == theirs.pop("stateful_callbacks")
    assert_same_rows(ours.pop("log_history"), theirs.pop("log_history"))
    differing = {
        key for key in theirs if key != "best_model_checkpoint" and ours[key] != pytest.approx(theirs[key])
    }
    assert not differing
    best = "best_model_checkpoint"
    assert (ours[best] and Path(ours[best]).name) == (theirs[best] and Path(theirs[best]).name)


def test_state_files_have_the_reference_layout(tmp_path: Path) -> None:
    """Optimizer, schedule and random states are the reference's, key by key."""
    folders = {}
    for name in LIBRARIES:
        run(name, DICT.having(**SAVING), tmp_path)
        folders[name] = tmp_path / name / "checkpoint-6"
    for file in ("optimizer.pt", "scheduler.pt"):
        ours, theirs = (torch.load(folders[name] / file) for name in ("etude", "transformers"))
        assert ours.keys() == theirs.keys()
    ours, theirs = (torch.load(folders[name] / "optimizer.pt") for name in ("etude", "transformers"))
    assert [sorted(group) for group in ours["param_groups"]] == [
        sorted(group) for group in theirs["param_groups"]
    ]
    assert [group["params"] for group in ours["param_groups"]] == [
        group["params"] for group in theirs["param_groups"]
    ]
    for index, state in theirs["state"].items():
        assert_same_weights(ours["state"][index], state)
    ours, theirs = (
        torch.load(folders[name] / "rng_state.pth", weights_only=False) for name in ("etude", "transformers")
    )
    assert ours.keys() >= theirs.keys()
    assert torch.equal(ours["cpu"], theirs["cpu"])


CROSS_CASES = {
    # Four updates an epoch: the checkpoint of step 6 is in the middle of the second.
    "dropout": replace(GPT2, model=lambda: helpers.gpt2_model(dropout=0.1)).having(
        **WINDOWS, save_strategy="steps", save_steps=6, num_train_epochs=3, warmup_steps=2, weight_decay=0.1
    ),
    "epoch-end": replace(DICT, model=lambda: helpers.DictClassifier(dropout=0.3)).having(
        save_strategy="epoch", num_train_epochs=3, lr_scheduler_type="cosine"
    ),
    "evaluated": BERT.having(
        save_strategy="steps",
        save_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        metric_for_best_model="accuracy",
    ),
}


def first_checkpoint(folder: Path) -> Path:
    """The oldest checkpoint in ``folder``."""
    return min(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


@pytest.mark.parametrize("name", CROSS_CASES)
@pytest.mark.parametrize(
    ("writer", "reader"), [LIBRARIES, LIBRARIES[::-1]], ids=["theirs-to-ours", "ours-to-theirs"]
)
def test_each_resumes_from_the_other(writer: str, reader: str, name: str, tmp_path: Path) -> None:
    """A run that is begun by one and ended by the other equals the uninterrupted run."""
    case = CROSS_CASES[name]
    whole = run(writer, case, tmp_path / "whole")
    checkpoint = first_checkpoint(tmp_path / "whole" / writer)
    resumed = run(reader, case, tmp_path / "resumed", resume=str(checkpoint))
    assert resumed.output.global_step == whole.output.global_step
    # The last row reports the training loss, which the reference takes over the steps of the last call only.
    assert_same_rows(resumed.log_history[:-1], whole.log_history[:-1])
    assert_same_weights(resumed.weights, whole.weights)


def test_models_load_from_each_other(tmp_path: Path) -> None:
    """``from_pretrained`` reads what ``save_model`` wrote, and the saved arguments are an object of the library."""
    from transformers import GPT2LMHeadModel

    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = build_trainer(lib, GPT2, tmp_path / name)
            trainer.save_model(str(tmp_path / name / "model"))
            arguments = torch.load(tmp_path / name / "model" / "training_args.bin", weights_only=False)
            assert isinstance(arguments, lib.TrainingArguments)
        loaded = GPT2LMHeadModel.from_pretrained(tmp_path / name / "model")
        helpers.assert_identical(helpers.weights_of(loaded), helpers.weights_of(trainer.model))
