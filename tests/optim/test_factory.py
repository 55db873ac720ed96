"""Do optimizer names and their arguments give what the reference makes of them, or an error?"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import etude
from etude.errors import ConfigurationError
from etude.optim.factory import OPTIONS, optimizer_class_and_options, parse_options
from tests import helpers

ADAM = {"adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6, "learning_rate": 0.3}


def arguments(**fields: Any) -> Any:
    return helpers.training_arguments(etude, "x", **fields)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adamw_torch", None),
        ("adamw_torch_fused", None),
        ("sgd", None),
        ("sgd", "momentum=0.9, nesterov=True"),
        ("adagrad", None),
        ("rmsprop", None),
        ("rmsprop", "alpha=0.9,momentum=0.5,centered=True"),
    ],
)
def test_optimizers_are_those_of_the_reference(name: str, options: str | None) -> None:
    made = []
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            args = helpers.training_arguments(lib, "x", optim=name, optim_args=options, **ADAM)
            cls, kwargs = lib.Trainer.get_optimizer_cls_and_kwargs(args)
            made.append((cls, cls([torch.nn.Parameter(torch.ones(1))], **kwargs).defaults))
    (their_class, their_defaults), (our_class, our_defaults) = made
    assert issubclass(our_class, their_class)
    assert our_defaults == their_defaults


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sgd", "momentum", "'momentum' is not one"),
        ("sgd", "momentum=", "'momentum=' is not one"),
        ("sgd", "momentum:0.9", "key=value"),
        ("sgd", "momentm=0.9", "sgd has no option 'momentm'.*momentum"),
        ("sgd", "momentum=high", "momentum='high' is not a valid value"),
        ("sgd", "nesterov=1", "nesterov='1' is not a valid value"),
        ("adamw_torch", "eps=1", "adamw_torch has no option 'eps'.*none"),
        ("rmsprop", "centered=maybe", "centered='maybe'"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`optim_args`.*{message}"):
        optimizer_class_and_options(arguments(optim=name, optim_args=text))


@pytest.mark.parametrize(
    ("text", "options"),
    [(None, {}), ("", {}), ("a=1", {"a": "1"}), (" a = 1 ,b=x=y,", {"a": "1", "b": "x=y"})],
)
def test_parts_are_separated(text: str | None, options: dict[str, str]) -> None:
    assert parse_options(text) == options


VALUES = {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.125, "nesterov": True, "lr_decay": 0.5, "eps": 0.5,
          "alpha": 0.5, "centered": True}  # fmt: skip


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in OPTIONS for option in OPTIONS[name]])
def test_every_option_that_is_taken_has_its_effect(name: str, option: str, tmp_path: Any) -> None:
    text = f"{option}={VALUES[option]}" + (",momentum=0.9" if option == "nesterov" else "")
    model = helpers.DictClassifier()
    trainer = etude.Trainer(model, helpers.training_arguments(etude, tmp_path, optim=name, optim_args=text))
    groups = trainer.create_optimizer().param_groups
    assert groups[0][option] == VALUES[option]
