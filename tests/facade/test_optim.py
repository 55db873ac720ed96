"""Do the Trainer's methods make, find and describe optimizers as the reference's do?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import etude
from etude.errors import ConfigurationError
from tests import helpers


def trainer(lib: Any = etude, cls: Any = None, model: Any = None, options: Any = None, **fields: Any) -> Any:
    torch.manual_seed(0)
    model = helpers.DictClassifier() if model is None else model
    args = helpers.training_arguments(lib, fields.pop("output_dir", "x"), **fields)
    return (cls or lib.Trainer)(
        model, args, train_dataset=helpers.feature_rows(16), optimizer_cls_and_kwargs=options
    )


def test_a_class_is_given_the_groups() -> None:
    made = trainer(
        options=(torch.optim.SGD, {"lr": 0.3, "momentum": 0.5}), weight_decay=0.1
    ).create_optimizer()
    assert type(made) is torch.optim.SGD
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in made.param_groups] == [
        (0.3, 0.5, 0.1),
        (0.3, 0.5, 0),
    ]


@pytest.mark.parametrize("key", ["params", "model", "optimizer_dict"])
def test_parameters_of_its_own_come_first(key: str) -> None:
    run = trainer()
    head = list(run.model.head.parameters())
    options = {key: head, "lr": 0.2}
    run.optimizer_cls_and_kwargs = (torch.optim.SGD, options)
    (group,) = run.create_optimizer().param_groups
    assert list(map(id, group["params"])) == list(map(id, head))
    assert options == {key: head, "lr": 0.2}  # nothing is taken out of the caller's dictionary


class Factory:
    """Makes an optimizer of a model, as for Muon."""

    def __call__(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.head.parameters(), lr=lr)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize("library", ["transformers", "etude"])
@pytest.mark.parametrize("factory", [Factory, lambda: Factory()], ids=["class", "function"])
def test_a_factory_is_given_the_model(library: str, factory: Any) -> None:
    with helpers.library(library) as lib:
        run = trainer(lib, options=(factory, {"lr": 0.2}))
        run.create_optimizer()
    assert [len(group["params"]) for group in run.optimizer.param_groups] == [2]


def test_the_static_method_may_be_overridden_and_asked() -> None:
    assert (
        etude.Trainer.get_optimizer_cls_and_kwargs(helpers.training_arguments(etude, "x"))[0]
        is torch.optim.AdamW
    )

    class Own(etude.Trainer):
        def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> Any:  # type: ignore[override]
            cls, options = super().get_optimizer_cls_and_kwargs(args, model)
            return cls, {**options, "optimizer_dict": list(self.model.head.parameters())}

    assert [len(g["params"]) for g in trainer(cls=Own).create_optimizer().param_groups] == [2]


def test_parameters_are_found_by_tensor_and_by_name() -> None:
    run = trainer(weight_decay=0.1)
    with pytest.raises(ValueError, match="optimizer is None"):
        run.get_optimizer_group()
    with pytest.raises(ValueError, match="optimizer is None"):
        run.get_learning_rates()
    run.create_optimizer()
    decayed, rest = run.optimizer.param_groups
    assert run.get_optimizer_group("head.weight") is run.get_optimizer_group(run.model.head.weight) is decayed
    assert run.get_optimizer_group("head.bias") is rest
    assert run.get_optimizer_group() == [decayed["params"], rest["params"]]
    assert run.get_learning_rates() == [1e-2, 1e-2]
    for unknown in ("head.wait", torch.ones(2)):
        with pytest.raises(ConfigurationError, match="No parameter group"):
            run.get_optimizer_group(unknown)


def test_tied_weights_are_counted_once_and_found_by_both_names() -> None:
    run = trainer(model=helpers.gpt2_model())
    run.create_optimizer()
    head, embedding = (run.get_optimizer_group(n) for n in ("lm_head.weight", "transformer.wte.weight"))
    assert head is embedding
    ids = [id(p) for group in run.optimizer.param_groups for p in group["params"]]
    assert len(ids) == len(set(ids)) == len(list(run.model.parameters()))
    assert run.get_num_trainable_parameters() == sum(p.numel() for p in run.model.parameters())


def test_nothing_to_train_is_an_error() -> None:
    model = helpers.DictClassifier().requires_grad_(False)
    with pytest.raises(ConfigurationError, match="no parameter that is trained"):
        trainer(model=model, learning_rates=None).create_optimizer()


def test_an_optimizer_that_is_there_is_kept() -> None:
    run = trainer()
    made = run.create_optimizer()
    assert run.create_optimizer() is made


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"lr_scheduler_type": "constant", "warmup_steps": 0.1}, "'constant_with_warmup' has one"),
        (
            {"lr_scheduler_type": "greedy", "eval_strategy": "steps", "warmup_steps": 3},
            "`warmup_steps=3` has no",
        ),
        ({"lr_scheduler_type": "constant"}, ""),
        ({"lr_scheduler_type": "linear", "warmup_steps": 3}, ""),
    ],
)
def test_a_warm_up_that_has_no_effect_is_told(
    fields: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    args = helpers.training_arguments(etude, "x", **fields)
    rows = helpers.feature_rows(8)
    run = etude.Trainer(helpers.DictClassifier(), args, train_dataset=rows, eval_dataset=rows)
    run.create_optimizer_and_scheduler(10)
    messages = [r.message for r in caplog.records if "warmup_steps" in r.message]
    assert bool(messages) is bool(told)
    assert told in "".join(messages)
