"""Do GaLore and APOLLO act on the layers that the reference chooses?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import etude
from etude.errors import ConfigurationError
from etude.optim.factory import optimizer_class_and_options
from tests import helpers
from tests.optim import stand_ins

NAMES = ("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "apollo_adamw")
TARGETS: list[Any] = [
    "all-linear", "all_linear", ["query", "value"], ["attention"], r".*\.output\.dense", ["classifier"],
    [r".*layer\.0.*dense", "pooler"], "classifier",
]  # fmt: skip


def groups(library: str, name: str, targets: Any, model: nn.Module, **fields: Any) -> list[dict[str, Any]]:
    """Parameter groups with the names of the parameters."""
    names = {id(p): n for n, p in model.named_parameters()}
    with helpers.library(library) as lib:
        args = helpers.training_arguments(lib, "x", optim=name, optim_target_modules=targets, **fields)
        _, options = lib.Trainer.get_optimizer_cls_and_kwargs(args, model)
    made: list[dict[str, Any]] = options["params"]
    return [{**group, "params": [names[id(p)] for p in group["params"]]} for group in made]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("targets", TARGETS, ids=str)
def test_groups_are_those_of_the_reference(name: str, targets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    model = helpers.bert_classifier()
    theirs, ours = (groups(lib, name, targets, model) for lib in ("transformers", "etude"))
    assert [group.pop("weight_decay") for group in ours] == [0.0, 0.0]
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_acts_as_elsewhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    model = helpers.bert_classifier()
    found = groups("etude", name, ["attention"], model, weight_decay=0.1)
    decayed = {n for group in found if group["weight_decay"] == 0.1 for n in group["params"]}
    args = helpers.training_arguments(etude, "x")
    assert decayed == set(etude.Trainer(model, args).get_decay_parameter_names(model))
    assert sorted(n for group in found for n in group["params"]) == sorted(dict(model.named_parameters()))


def test_frozen_parameters_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    model = helpers.bert_classifier()
    model.bert.requires_grad_(False)
    others, targets = groups("etude", "galore_adamw", "all-linear", model)
    assert (others["params"], targets["params"]) == (["classifier.bias"], ["classifier.weight"])
    model.classifier.requires_grad_(False)
    with pytest.raises(ConfigurationError, match="no linear layer that is trained"):
        groups("etude", "galore_adamw", "all-linear", model)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "need to define `optim_target_modules` to use galore_adamw"),
        ([7], r"must be a list of strings.*it is \[7\]"),
        (["nowhere"], "No target modules found for galore_adamw.*nowhere"),
    ],
)
def test_targets_that_mean_nothing_are_refused(
    targets: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install(monkeypatch)
    with pytest.raises(ConfigurationError, match=message):
        groups("etude", "galore_adamw", targets, helpers.bert_classifier())


def test_a_model_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    args = helpers.training_arguments(etude, "x", optim="apollo_adamw", optim_target_modules="all-linear")
    with pytest.raises(ConfigurationError, match="pass a model"):
        optimizer_class_and_options(args)


@pytest.mark.parametrize("name", NAMES)
def test_the_trainer_trains_with_these_groups(
    name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install(monkeypatch)
    torch.manual_seed(0)
    args = helpers.training_arguments(etude, tmp_path, optim=name, optim_target_modules=["head"], max_steps=2)
    trainer = etude.Trainer(helpers.DictClassifier(), args, train_dataset=helpers.feature_rows(8))
    before = helpers.weights_of(trainer.model)
    trainer.train()
    assert [len(group["params"]) for group in trainer.optimizer.param_groups] == [5, 1]
    assert all(not torch.equal(before[n], w) for n, w in trainer.model.state_dict().items())
