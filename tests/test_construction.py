"""Is what cannot work refused when a Trainer is built or started, with the class that the reference raises?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

import etude
from etude import construction
from etude.errors import EtudeError
from tests import helpers

LIBRARIES = ("transformers", "etude")
Scenario = Callable[[ModuleType, Path], Any]


class Endless(IterableDataset):
    """A stream without a length."""

    def __iter__(self) -> Iterator[Any]:
        yield from helpers.feature_rows(100).rows


class WithoutLoss(helpers.DictClassifier):
    """Returns no loss."""

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return {"logits": self.head(self.body(features))}


def new_trainer(lib: ModuleType, folder: Path, given: dict[str, Any] | None = None, **fields: Any) -> Any:
    """A Trainer with a model and data, or what is given instead of them."""
    parts = {"model": helpers.DictClassifier(), "train_dataset": helpers.feature_rows(8), **(given or {})}
    return lib.Trainer(args=helpers.training_arguments(lib, folder, **fields), **parts)


def optimizers() -> tuple[Any, None]:
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), None


def bert_body() -> nn.Module:
    from transformers import BertModel

    return BertModel(helpers.bert_classifier().config)


class Batcher:
    """A collator of old versions."""

    def collate_batch(self, rows: list[Any]) -> Any:
        return rows


def text_table() -> Any:
    import datasets

    return datasets.Dataset.from_dict({"text": ["a", "b"], "id": [1, 2]})


def without_state(lib: ModuleType, folder: Path) -> Any:
    (folder / "somewhere").mkdir()
    return new_trainer(lib, folder).train(resume_from_checkpoint=str(folder / "somewhere"))


# what is done, the class that is raised (the reference's, or one of its bases), and what the message must name
REFUSED: dict[str, tuple[Scenario, type[Exception], str]] = {
    "no model": (lambda lib, d: lib.Trainer(args=helpers.training_arguments(lib, d)), RuntimeError, "model_init"),
    "model twice": (
        lambda lib, d: new_trainer(lib, d, {"model_init": helpers.DictClassifier}), ValueError, "not both",
    ),
    "two optimizers": (
        lambda lib, d: new_trainer(
            lib, d, {"optimizers": optimizers(), "optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.1})}
        ),
        RuntimeError, "optimizer_cls_and_kwargs",
    ),
    "optimizers of another model": (
        lambda lib, d: new_trainer(
            lib, d, {"model": None, "model_init": helpers.DictClassifier, "optimizers": optimizers()}
        ),
        RuntimeError, "model_init",
    ),
    "old collator": (lambda lib, d: new_trainer(lib, d, {"data_collator": Batcher()}), TypeError, "data_collator"),
    "nothing to evaluate": (lambda lib, d: new_trainer(lib, d, eval_strategy="epoch"), ValueError, "eval_dataset"),
    "endless": (lambda lib, d: new_trainer(lib, d, {"train_dataset": Endless()}), ValueError, "max_steps"),
    "best of no metric": (
        lambda lib, d: new_trainer(
            lib, d, {"eval_dataset": helpers.feature_rows(4)}, save_strategy="best", eval_strategy="epoch"
        ),
        ValueError, "metric_for_best_model",
    ),
    "greedy model_init": (
        lambda lib, d: new_trainer(lib, d, {"model": None, "model_init": lambda a, b: None}), RuntimeError,
        "0 or 1 argument",
    ),
    "model_init of nothing": (
        lambda lib, d: new_trainer(lib, d, {"model": None, "model_init": lambda: None}), RuntimeError, "None",
    ),
    "no data": (lambda lib, d: new_trainer(lib, d, {"train_dataset": None}).train(), ValueError, "train_dataset"),
    "no evaluation data": (lambda lib, d: new_trainer(lib, d).evaluate(), ValueError, "eval_dataset"),
    "no column": (lambda lib, d: new_trainer(lib, d, {"train_dataset": text_table()}).train(), ValueError, "text"),
    "empty batch": (
        lambda lib, d: new_trainer(
            lib, d, {"train_dataset": helpers.Rows([{"a": 1}] * 4), "data_collator": lambda rows: {}}
        ).train(),
        ValueError, "features",
    ),
    "no loss": (lambda lib, d: new_trainer(lib, d, {"model": WithoutLoss()}).train(), ValueError, "logits"),
    "no checkpoint": (
        lambda lib, d: new_trainer(lib, d).train(resume_from_checkpoint=True), ValueError, "checkpoint",
    ),
    "bad path": (lambda lib, d: new_trainer(lib, d).train("nowhere"), ValueError, "nowhere"),
    "no such metric": (
        lambda lib, d: new_trainer(
            lib, d, {"eval_dataset": helpers.feature_rows(4)}, eval_strategy="epoch", save_strategy="epoch",
            load_best_model_at_end=True, metric_for_best_model="f1",
        ).train(),
        KeyError, "eval_loss",
    ),
    "rates too early": (lambda lib, d: new_trainer(lib, d).get_learning_rates(), ValueError, "None"),
    "groups too early": (lambda lib, d: new_trainer(lib, d).get_optimizer_group(), ValueError, "None"),
    "folder without a checkpoint": (without_state, ValueError, "somewhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_alike(case: str, name: str, tmp_path: Path) -> None:
    scenario, kind, culprit = REFUSED[case]
    with helpers.library(name) as lib, pytest.raises(kind) as caught:
        scenario(lib, tmp_path)
    if name == "etude":
        assert culprit in str(caught.value)
        assert isinstance(caught.value, EtudeError) or kind is TypeError


def test_arguments_come_in_the_references_order() -> None:
    import inspect

    with helpers.library("transformers") as lib:
        theirs = list(inspect.signature(lib.Trainer.__init__).parameters)
    ours = list(inspect.signature(etude.Trainer.__init__).parameters)
    assert ours == [*theirs, "tokenizer"]


@pytest.mark.parametrize("model", ["bert-base", {"a": 1}])
def test_a_model_must_be_a_module(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"torch.nn.Module, it is a {type(model).__name__}"):
        new_trainer(etude, tmp_path, {"model": model})


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_model_without_a_head_trains_with_a_loss_function(name: str, tmp_path: Path) -> None:
    def loss_of(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        return outputs.last_hidden_state.square().mean()

    given = {"model": bert_body(), "train_dataset": helpers.text_rows(4), "compute_loss_func": loss_of}
    with helpers.library(name) as lib:
        trainer = new_trainer(lib, tmp_path, {**given, "data_collator": helpers.pad_texts}, max_steps=1)
        assert trainer.train().global_step == 1


def test_a_model_without_a_head_and_a_loss_is_told_so(tmp_path: Path) -> None:
    given = {"model": bert_body(), "train_dataset": helpers.text_rows(4), "data_collator": helpers.pad_texts}
    with pytest.raises(ValueError, match="BertModel.*no head|did not return a loss"):
        new_trainer(etude, tmp_path, given).train()


def test_a_model_that_contrasts_its_inputs_needs_no_head() -> None:
    """transformers lists it among those without one."""
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = CLIPConfig(text_config=small, vision_config={**small, "image_size": 8, "patch_size": 8})
    construction.has_head(CLIPModel(config), has_own_loss=False)


def test_a_model_without_trained_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EtudeError, match="requires_grad=False"):
        new_trainer(etude, tmp_path, {"model": helpers.DictClassifier().requires_grad_(False)}).train()


def test_a_stream_with_a_number_of_steps_is_fine(tmp_path: Path) -> None:
    trainer = new_trainer(etude, tmp_path, {"train_dataset": Endless()}, max_steps=2)
    assert trainer.train().global_step == 2


def test_a_loss_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Number(helpers.DictClassifier):
        def forward(self, features: Any, labels: Any = None) -> Any:
            return {"loss": 1.0}

    with pytest.raises(ValueError, match="should be a tensor, it is a float"):
        new_trainer(etude, tmp_path, {"model": Number()}).train()
