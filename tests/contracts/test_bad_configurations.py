"""Nothing silent: what cannot work is refused before the first update, with the culprit and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import etude
from etude import EarlyStoppingCallback, HfArgumentParser, Trainer, TrainerCallback, TrainingArguments
from etude.errors import EtudeError
from tests import helpers


@dataclass(frozen=True)
class Bad:
    """A configuration that cannot work.

    Attributes:
        does: makes it, in a folder that is its own.
        culprit: the word of the message that says what is wrong.
        way_out: the word that says what to do about it.
        begins: whether a run begins, which makes its folder and the log, before the error can be known.
    """

    does: Callable[[Path], Any]
    culprit: str
    way_out: str
    begins: bool = False


# --- ways to make one ---------------------------------------------------------------------------------------------


def arguments(culprit: str, way_out: str, **fields: Any) -> Bad:
    """Arguments that are wrong in themselves."""
    return Bad(lambda folder: TrainingArguments(str(folder / "run"), **fields), culprit, way_out)


def construction(culprit: str, way_out: str, fields: dict[str, Any] | None = None, **parts: Any) -> Bad:
    """Parts that a Trainer cannot be made of."""
    return Bad(lambda folder: trainer_of(folder, parts, fields or {}), culprit, way_out)


def training(culprit: str, way_out: str, fields: dict[str, Any] | None = None, **parts: Any) -> Bad:
    """Parts whose fault shows when the training begins."""
    return Bad(lambda folder: trainer_of(folder, parts, fields or {}).train(), culprit, way_out, True)


def evaluation(culprit: str, way_out: str, fields: dict[str, Any] | None = None, **parts: Any) -> Bad:
    """Parts whose fault shows when an evaluation comes first."""
    fields = {"eval_on_start": True, "eval_strategy": "epoch", **(fields or {})}
    return training(culprit, way_out, fields, **{"eval_dataset": helpers.feature_rows(4), **parts})


def trainer_of(folder: Path, parts: dict[str, Any], fields: dict[str, Any]) -> Trainer:
    given = {
        "model": helpers.DictClassifier(),
        "args": helpers.training_arguments(etude, folder / "run", **{"max_steps": 2, **fields}),
        "train_dataset": helpers.feature_rows(8),
        **parts,
        "callbacks": [*parts.get("callbacks", []), NoUpdate()],
    }
    return Trainer(**given)


class NoUpdate(TrainerCallback):
    """Fails where the weights are moved."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pytest.fail("the weights were moved")


# --- parts that do not work ---------------------------------------------------------------------------------------


class Endless(IterableDataset):
    """A stream without a length."""

    def __iter__(self) -> Iterator[Any]:
        yield from helpers.feature_rows(100).rows


class WithoutLoss(helpers.DictClassifier):
    """Returns only scores."""

    def forward(self, features: Any, labels: Any = None) -> Any:
        return {"logits": self.head(self.body(features))}


class LossPerSample(helpers.DictClassifier):
    """Returns a loss for each sample."""

    def forward(self, features: Any, labels: Any = None) -> Any:
        scores = self.head(self.body(features))
        return {"loss": nn.functional.cross_entropy(scores, labels, reduction="none"), "logits": scores}


class LossIsNumber(helpers.DictClassifier):
    """Returns a float."""

    def forward(self, features: Any, labels: Any = None) -> Any:
        return {"loss": super().forward(features, labels)["loss"].item()}


class LossIsDetached(helpers.DictClassifier):
    """Returns a loss without a graph."""

    def forward(self, features: Any, labels: Any = None) -> Any:
        return {"loss": super().forward(features, labels)["loss"].detach()}


class LossIsNaN(helpers.DictClassifier):
    """Returns what is not a number."""

    def forward(self, features: Any, labels: Any = None) -> Any:
        return {"loss": super().forward(features, labels)["loss"] * float("nan")}


def frozen() -> nn.Module:
    return helpers.DictClassifier().requires_grad_(False)


def headless() -> nn.Module:
    from transformers import BertModel

    return BertModel(helpers.bert_classifier().config)


def foreign_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD(helpers.DictClassifier().parameters(), lr=0.1)


def of_two_lengths() -> helpers.Rows:
    return helpers.Rows([{"features": torch.zeros(2 + i % 2), "labels": 0} for i in range(8)])


def of_other_names() -> helpers.Rows:
    return helpers.Rows([{"pixels": torch.zeros(6), "target": 0} for _ in range(8)])


def with_file(name: str, text: str, does: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def prepared(folder: Path) -> Any:
        (folder / name).write_text(text)
        return does(folder / name)

    return prepared


BAD: dict[str, Bad] = {
    # values
    "batch of nothing": arguments("per_device_train_batch_size", "at least 1", per_device_train_batch_size=0),
    "half a batch": arguments("per_device_eval_batch_size", "whole number", per_device_eval_batch_size=0.5),
    "learning rate as text": arguments("learning_rate", "write it as a number", learning_rate="1e-4"),
    "negative learning rate": arguments("learning_rate", "at least 0", learning_rate=-1e-4),
    "learning rate is NaN": arguments("learning_rate", "at least 0", learning_rate=float("nan")),
    "False in quotes": arguments("fp16", "without quotes", fp16="False"),
    "no steps": arguments("max_steps", "-1", max_steps=0),
    "no epochs": arguments("num_train_epochs", "above 0", num_train_epochs=0),
    "beta of 1": arguments("adam_beta2", "[0, 1)", adam_beta2=1.0),
    "all smoothed": arguments("label_smoothing_factor", "[0, 1)", label_smoothing_factor=1.0),
    "negative warm-up": arguments("warmup_steps", "at least 0", warmup_steps=-5),
    "one and a half steps": arguments("logging_steps", "whole number", logging_steps=1.5),
    "logging every 0 steps": arguments("logging_steps", "above 0", logging_steps=0),
    "seed as text": arguments("seed", "write it as a number", seed="42"),
    "labels as one name": arguments("label_names", "a list", label_names="labels"),
    "cache emptied every 0 steps": arguments("torch_empty_cache_steps", "at least 1", torch_empty_cache_steps=0),
    # names
    "misspelt argument": arguments("lerning_rate", "'learning_rate'", lerning_rate=0.1),
    "misspelt strategy": arguments("eval_strategy", "'steps'", eval_strategy="step"),
    "misspelt optimizer": arguments("optim", "'adamw_torch'", optim="adamw"),
    "misspelt schedule": arguments("lr_scheduler_type", "'linear'", lr_scheduler_type="liner"),
    "misspelt sampling": arguments("train_sampling_strategy", "'random'", train_sampling_strategy="randm"),
    "misspelt log level": arguments("log_level", "'warning'", log_level="warnings"),
    "misspelt tracker": arguments("report_to", "log.jsonl", report_to="tensorbord"),
    "misspelt policy": arguments("on_nonfinite", "'skip'", on_nonfinite="skipp"),
    "misspelt metric input": arguments("include_for_metrics", "'inputs'", include_for_metrics=["input"]),
    "misspelt debugging aid": arguments("debug", "underflow_overflow", debug="overflow"),
    "misspelt hub strategy": arguments("hub_strategy", "'every_save'", hub_strategy="every-save"),
    # options inside of values
    "bad JSON": arguments("lr_scheduler_kwargs", "JSON", lr_scheduler_kwargs="{a: 1}"),
    "optimizer options": arguments("optim_args", "key=value", optim_args="momentum:0.9"),
    "recompute every 0 layers": arguments(
        "every_n_layers", "at least 1", activation_checkpointing_kwargs={"every_n_layers": 0}
    ),
    "unknown option of accelerate": arguments("split_batch", "split_batches", accelerator_config={"split_batch": 1}),
    # combinations
    "two precisions": arguments("fp16", "choose one", fp16=True, bf16=True),
    "best model without evaluation": arguments("load_best_model_at_end", "eval_strategy", load_best_model_at_end=True),
    "best checkpoint without metric": arguments(
        "save_strategy", "metric_for_best_model", save_strategy="best", eval_strategy="epoch"
    ),
    "schedule by metric without evaluation": arguments(
        "lr_scheduler_type", "eval_strategy", lr_scheduler_type="reduce_lr_on_plateau"
    ),
    "prefetching without workers": arguments(
        "dataloader_prefetch_factor", "dataloader_num_workers", dataloader_prefetch_factor=2
    ),
    "accumulation said twice": arguments(
        "num_steps", "give only", gradient_accumulation_steps=2,
        accelerator_config={"gradient_accumulation_kwargs": {"num_steps": 4}},
    ),
    # version 4
    "older and newer name": arguments(
        "evaluation_strategy", "give only `eval_strategy`", evaluation_strategy="epoch", eval_strategy="steps"
    ),
    "Apex": arguments("fp16_backend", "fp16=True", fp16_backend="apex"),
    "pickled weights": arguments("save_safetensors", "torch.save", save_safetensors=False),
    # files and command lines
    "misspelt option": Bad(
        lambda _: HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(["--lerning-rate", "1"]),
        "--lerning-rate", "'--learning-rate'",
    ),
    "misspelt key": Bad(
        with_file("a.yaml", "lerning_rate: 1e-4", HfArgumentParser(TrainingArguments).parse_yaml_file),
        "lerning_rate", "'learning_rate'",
    ),
    "broken file": Bad(with_file("a.json", "{", TrainingArguments.from_json), "a.json", "JSON"),
    # the constructor
    "no model": construction("model", "model_init", model=None),
    "model twice": construction("model_init", "not both", model_init=helpers.DictClassifier),
    "name of a model": construction("str", "torch.nn.Module", model="bert-base-uncased"),
    "body without a head": construction("BertModel", "compute_loss_func", model=headless()),
    "model_init of nothing": construction("model_init", "return the model", model=None, model_init=lambda: None),
    "optimizer of another model's making": construction(
        "model_init", "create_optimizer", model=None, model_init=helpers.DictClassifier,
        optimizers=(foreign_optimizer(), None),
    ),
    "two optimizers": construction(
        "optimizer_cls_and_kwargs", "choose one", optimizers=(foreign_optimizer(), None),
        optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.1}),
    ),
    "collator is no function": construction("data_collator", "callable", data_collator=[1]),
    "metrics are no function": construction("compute_metrics", "function", compute_metrics={"accuracy": 1}),
    "arguments are a dictionary": construction("args", "TrainingArguments", args={"learning_rate": 0.1}),
    "callback is no callback": construction("callbacks", "TrainerCallback", callbacks=[print]),
    "evaluation without data": construction("eval_strategy", "eval_dataset", {"eval_strategy": "epoch"}),
    "data is a loader": construction(
        "DataLoader", "get_train_dataloader", train_dataset=DataLoader(helpers.feature_rows(4))
    ),
    # the beginning of a training
    "no data": training("train_dataset", "requires", train_dataset=None),
    "empty data": training("train_dataset", "filtered", train_dataset=helpers.Rows([])),
    "stream without an end": construction("train_dataset", "max_steps", {"max_steps": -1}, train_dataset=Endless()),
    "columns that the model does not take": training("pixels", "remove_unused_columns", train_dataset=of_other_names()),
    "samples of two lengths": training("'features'", "collator that pads", train_dataset=of_two_lengths()),
    "collator of nothing": training("batch", "what the model expects: features", data_collator=lambda rows: {}),
    "nothing to train": training("requires_grad", "requires_grad", model=frozen()),
    "optimizer of other weights": training(
        "none of the model's parameters", "model.parameters()", optimizers=(foreign_optimizer(), None)
    ),
    "unknown option of the optimizer": training(
        "optim_args", "momentum", {"optim": "sgd", "optim_args": "momntum=0.9"}
    ),
    "unknown option of the schedule": training(
        "lr_scheduler_kwargs", "num_cycles", {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"cycles": 2}}
    ),
    "no loss": training("loss", "labels", model=WithoutLoss()),
    "loss per sample": training("loss", "mean", model=LossPerSample()),
    "loss is a number": training("loss", "tensor", model=LossIsNumber()),
    "loss without a graph": training("loss", "requires_grad", model=LossIsDetached()),
    "loss is NaN": training("loss", "on_nonfinite", model=LossIsNaN()),
    "nowhere to resume from": Bad(
        lambda folder: trainer_of(folder, {}, {}).train(resume_from_checkpoint="nowhere"), "nowhere", "checkpoint", True
    ),
    "nothing to resume": Bad(
        lambda folder: trainer_of(folder, {}, {}).train(resume_from_checkpoint=True), "checkpoint", "run", True
    ),
    "stopping early by nothing": training(
        "metric_for_best_model", "metric_for_best_model", callbacks=[EarlyStoppingCallback()]
    ),
    # an evaluation before the first step
    "metrics of nothing": evaluation("compute_metrics", "dictionary", compute_metrics=lambda prediction: None),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_before_the_first_update(name: str, tmp_path: Path) -> None:
    bad = BAD[name]
    with pytest.raises(Exception, match=".") as caught:
        bad.does(tmp_path)
    assert isinstance(caught.value, EtudeError | TypeError | AssertionError)
    assert bad.culprit in str(caught.value)
    assert bad.way_out in str(caught.value)
    found = {path.name for path in tmp_path.rglob("*")} - {"a.json", "a.yaml"}
    assert found <= ({"run", "log.jsonl"} if bad.begins else set())
