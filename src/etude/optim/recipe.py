"""What an entry of the table of optimizers is made of, and how `optim_args` becomes its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from etude.errors import ConfigurationError

ClassAndOptions = tuple[Any, dict[str, Any]]


@dataclass(frozen=True)
class Request:
    """What an optimizer is made for.

    Attributes:
        name: the name in `args.optim`.
        args: the training arguments.
        model: the model, which low-rank optimizers look at; None where nobody has given it.
        given: `optim_args`, each option in its type.
    """

    name: str
    args: Any
    model: nn.Module | None
    given: dict[str, Any]

    @property
    def rate(self) -> dict[str, Any]:
        """The learning rate as a keyword argument."""
        return {"lr": self.args.learning_rate}

    @property
    def adam(self) -> dict[str, Any]:
        """Adam's numbers as keyword arguments."""
        return {"betas": (self.args.adam_beta1, self.args.adam_beta2), "eps": self.args.adam_epsilon}

    @property
    def changed_adam(self) -> dict[str, Any]:
        """Those of Adam's numbers that were set, for classes that have defaults of their own."""
        changed = {}
        if (self.args.adam_beta1, self.args.adam_beta2) != (0.9, 0.999):
            changed["betas"] = (self.args.adam_beta1, self.args.adam_beta2)
        if self.args.adam_epsilon != 1e-8:
            changed["eps"] = self.args.adam_epsilon
        return changed


@dataclass(frozen=True)
class Recipe:
    """How the optimizer of a name is made.

    Attributes:
        build: from a request to the class and its keyword arguments (all but the parameters).
        options: the options that `optim_args` may give, each with the function from its text to its value.
        low_rank: whether it acts on `optim_target_modules`.
    """

    build: Callable[[Request], ClassAndOptions]
    options: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    low_rank: bool = False


def number(text: str) -> float:
    """A real number."""
    return float(text)


def count(text: str) -> int:
    """A whole number."""
    return int(text)


def flag(text: str) -> bool:
    """A truth value."""
    value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower())
    if value is None:
        raise ValueError(text)
    return value


def dtype(text: str) -> torch.dtype:
    """A number format by its name in PyTorch."""
    value = getattr(torch, text, None)
    if not isinstance(value, torch.dtype):
        raise ValueError(text)
    return value


def one_of(*names: str) -> Callable[[str], str]:
    """One of several words."""

    def convert(text: str) -> str:
        if text not in names:
            raise ValueError(text)
        return text

    return convert


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


def typed_options(name: str, recipe: Recipe, text: str | None) -> dict[str, Any]:
    """`optim_args` as the options of the optimizer `name`.

    Raises:
        ConfigurationError: it does not take one of them, or a value is not of the option's type.
    """
    typed: dict[str, Any] = {}
    for key, value in parse_options(text).items():
        convert = recipe.options.get(key)
        if convert is None:
            known = ", ".join(recipe.options) or "none"
            hint = " Weight decay is the argument `weight_decay`." if key == "weight_decay" else ""
            raise ConfigurationError(
                f"`optim_args`: {name} has no option {key!r} (its options: {known}).{hint}"
            )
        try:
            typed[key] = convert(value)
        except ValueError:
            raise ConfigurationError(f"`optim_args`: {key}={value!r} is not a valid value.") from None
    return typed
