"""The model card: the reference's metadata, the numbers of the run, and nobody's text lost."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from datasets import Dataset

import etude
from etude.hub import card, facts
from tests import helpers
from tests.parity.runner import BERT, DICT, build_trainer


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a model card needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def trained(lib: ModuleType, folder: Path, case: Any = BERT, **arguments: Any) -> Any:
    """A trainer after two evaluations; both libraries are told the same log."""
    trainer = build_trainer(lib, case.having(**arguments), folder / "my-model")
    trainer.state.log_history = [
        {"loss": 2.0, "epoch": 0.5, "step": 5},
        {
            "eval_loss": 1.5,
            "eval_accuracy": 0.5,
            "eval_f1_macro": 0.5,
            "eval_runtime": 1.0,
            "epoch": 1.0,
            "step": 10,
        },
        {"loss": 1.0, "epoch": 2.0, "step": 20},
        {"eval_loss": 1.25, "eval_accuracy": 0.75, "eval_f1_macro": 0.625, "epoch": 2.0, "step": 20},
        {"train_runtime": 9.0, "train_loss": 1.5, "epoch": 2.0, "step": 20},
    ]
    trainer.state.global_step = 20
    return trainer


def front(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text().split("---\n")[1])


GLUE = {"dataset_tags": "glue", "dataset": "GLUE MRPC", "dataset_args": "mrpc"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {
            "language": "en",
            "license": "mit",
            "tags": "a-tag",
            "model_name": "A Name",
            "finetuned_from": "google/bert",
        },
        {"tags": ["generated_from_trainer", "b"], "tasks": "fill-mask", **GLUE},
        {**GLUE},
        {"tasks": ["text-classification", "unknown"], "dataset_tags": ["a", "b"], "dataset": ["A", "B"]},
        {"dataset_tags": ["a"]},
    ],
    ids=str,
)
def test_the_metadata_is_that_of_the_reference(given: dict[str, Any], tmp_path: Path) -> None:
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            trainer = trained(lib, tmp_path / name)
            trainer.model.config._name_or_path = "google-bert/bert-tiny"
            copied = {key: list(value) if isinstance(value, list) else value for key, value in given.items()}
            trainer.create_model_card(**copied)
        found.append(front(tmp_path / name / "my-model" / "README.md"))
    assert found[1] == found[0]
    assert found[0]["metrics"] == ["accuracy"]


def test_a_data_set_from_a_hub_tells_its_name(tmp_path: Path) -> None:
    data = Dataset.from_dict({"input_ids": [[1, 2]], "labels": [0]})
    data.info.builder_name, data.info.config_name = "glue", "mrpc"
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            trainer = trained(lib, tmp_path / name)
            trainer.eval_dataset = data
            trainer.create_model_card(finetuned_from="google/bert")
        found.append(front(tmp_path / name / "my-model" / "README.md"))
    assert found[1] == found[0]
    (result,) = found[0]["model-index"][0]["results"]
    assert result["dataset"] == {
        "name": "glue",
        "type": "glue",
        "config": "mrpc",
        "split": "None",
        "args": "mrpc",
    }


def cells(text: str, heading: str) -> list[list[str]]:
    """The table under a heading, without its rule."""
    part = text.split(f" {heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [line.split("|")[1:-1] for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for i, row in enumerate(rows) if i != 1]


def test_the_text_has_the_results_and_how_they_came_about(tmp_path: Path) -> None:
    trainer = trained(etude, tmp_path, gradient_accumulation_steps=2, warmup_steps=3)
    del trainer.state.log_history[1]["eval_f1_macro"]  # a metric may come later
    trainer.create_model_card(finetuned_from="google/bert", dataset=["GLUE", "SQuAD"])
    text = (tmp_path / "my-model" / "README.md").read_text()
    assert (
        "# my-model\n\n[google/bert](https://huggingface.co/google/bert), fine-tuned on GLUE and SQuAD.\n"
        in text
    )
    assert cells(text, "Results") == [
        ["Metric", "Value"], ["Loss", "1.25"], ["Accuracy", "0.75"], ["F1 Macro", "0.625"],
    ]  # fmt: skip
    assert cells(text, "Progress") == [
        ["Epoch", "Step", "Training Loss", "Loss", "Accuracy", "F1 Macro"],
        ["1", "10", "2", "1.5", "0.5", ""],
        ["2", "20", "1", "1.25", "0.75", "0.625"],
    ]
    training = dict(cells(text, "Training")[1:])
    assert training["total train batch size"] == "8"
    assert training["warm-up steps"] == "3"
    assert "gradient accumulation steps" in training
    assert "processes" not in training
    assert dict(cells(text, "Versions"))["étude"] == etude.__version__
    assert all(len(line) <= 120 for line in text.splitlines())


def test_a_module_of_ones_own_has_a_card_too(tmp_path: Path) -> None:
    trained(etude, tmp_path, DICT).create_model_card()
    path = tmp_path / "my-model" / "README.md"
    assert front(path) == {
        "tags": ["generated_from_trainer"],
        "metrics": ["accuracy"],
        "model-index": [{"name": "my-model", "results": []}],
    }
    assert "# my-model\n\nTrained.\n" in path.read_text()


def test_without_a_log_there_are_no_results(tmp_path: Path) -> None:
    build_trainer(etude, DICT, tmp_path).create_model_card()
    text = (tmp_path / "README.md").read_text()
    assert "Results" not in text
    assert "Progress" not in text


def test_the_tables_line_up_and_hold_any_text(tmp_path: Path) -> None:
    lines = card.table(["name", "x"], [("a|b\nc", 1.23456789), ("long name", None)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| --------- | ----: |"
    assert lines[2] == "| a\\|b c    | 1.235 |"


def test_a_text_written_by_hand_stays(tmp_path: Path) -> None:
    trainer = trained(etude, tmp_path)
    path = tmp_path / "my-model" / "README.md"
    trainer.create_model_card(license="mit")
    generated = path.read_text()
    trainer.create_model_card(license="apache-2.0")
    assert path.read_text() == generated.replace("license: mit", "license: apache-2.0")
    edited = re.sub(r"<!--.*?-->", "", generated, flags=re.DOTALL).replace("*What is in it?*", "Poems.")
    path.write_text(edited.replace("tags:", "widget:\n- text: Hello\ntags:"))
    trainer.create_model_card(license="cc0-1.0", tags=["mine"])
    assert front(path)["widget"] == [{"text": "Hello"}]
    assert front(path)["license"] == "cc0-1.0"
    assert path.read_text().split("---\n", 2)[2] == edited.split("---\n", 2)[2]


@pytest.mark.parametrize("text", ["Only a text.\n", "---\nno: [closing\n\n# Title\n"])
def test_a_text_without_metadata_gets_some(text: str, tmp_path: Path) -> None:
    trainer = trained(etude, tmp_path)
    path = tmp_path / "my-model" / "README.md"
    path.write_text(text)
    trainer.create_model_card()
    assert path.read_text().endswith(f"---\n{text}")
    assert front(path)["library_name"] == "transformers"


def test_the_references_card_is_taken_for_what_it_is(tmp_path: Path) -> None:
    with helpers.library("transformers") as lib:
        trained(lib, tmp_path).create_model_card(tags=["kept"])
    trained(etude, tmp_path).create_model_card(tags=["new"])
    path = tmp_path / "my-model" / "README.md"
    assert set(front(path)["tags"]) == {"new", "kept", "generated_from_trainer"}
    assert "Framework versions" not in path.read_text()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_peft_model_keeps_what_peft_says(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    trainer = trained(etude, tmp_path)
    trainer.model.config._name_or_path = "google/bert"
    trainer.model = get_peft_model(trainer.model, LoraConfig(target_modules=["query"]))
    trainer.model.save_pretrained(tmp_path / "my-model")  # writes PEFT's own template
    trainer.create_model_card()
    found = front(tmp_path / "my-model" / "README.md")
    text = (tmp_path / "my-model" / "README.md").read_text()
    assert found["library_name"] == "peft"
    assert "lora" in found["tags"]
    assert "[More Information Needed]" not in text
    assert "Accuracy" in text


def test_every_task_of_the_reference_is_known() -> None:
    from transformers import modelcard

    from etude.hub import metadata

    assert list(facts.TASKS) == list(modelcard.TASK_MAPPING)
    assert metadata._TASK_NAMES == modelcard.TASK_TAG_TO_NAME_MAPPING
    assert list(metadata._METRICS) == modelcard.METRIC_TAGS
