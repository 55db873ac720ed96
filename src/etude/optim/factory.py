"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from etude.errors import ConfigurationError


def parse_options(text: str | None) -> dict[str, str]:
    """`optim_args`, "key=value,key=value", as a dictionary.

    Raises:
        ConfigurationError: a part is not of that form.
    """
    options: dict[str, str] = {}
    for part in filter(None, (text or "").replace(" ", "").split(",")):
        key, separator, value = part.partition("=")
        if not separator or not value:
            raise ConfigurationError(
                f"`optim_args` is made of key=value parts separated by commas, {part!r} is not one."
            )
        options[key] = value
    return options


def _number(text: str) -> float:
    return float(text)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


# The options of each optimizer beside the learning rate, with the type of each.
OPTIONS: dict[str, dict[str, Callable[[str], Any]]] = {
    "adamw_torch": {},
    "adamw_torch_fused": {},
    "sgd": {"momentum": _number, "dampening": _number, "nesterov": _flag},
    "adagrad": {"lr_decay": _number, "eps": _number},
    "rmsprop": {
        "momentum": _number,
        "alpha": _number,
        "eps": _number,
        "centered": _flag,
    },
}
CLASSES: dict[str, type[Optimizer]] = {
    "adamw_torch": torch.optim.AdamW,
    "adamw_torch_fused": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}


def optimizer_class_and_options(args: Any) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class that `args.optim` names, and its keyword arguments (all but the parameters).

    Raises:
        ConfigurationError: `optim_args` has an option that this optimizer does not take, or a value of the wrong type.
    """
    name = str(args.optim)
    options: dict[str, Any] = {"lr": args.learning_rate}
    if name.startswith("adamw"):
        options |= {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    if name == "adamw_torch_fused":
        options["fused"] = True
    for key, text in parse_options(args.optim_args).items():
        convert = OPTIONS[name].get(key)
        if convert is None:
            known = ", ".join(OPTIONS[name]) or "none"
            raise ConfigurationError(f"`optim_args`: {name} has no option {key!r} (its options: {known}).")
        try:
            options[key] = convert(text)
        except ValueError:
            raise ConfigurationError(f"`optim_args`: {key}={text!r} is not a valid value.") from None
    return CLASSES[name], options
