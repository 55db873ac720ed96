"""Optimizers by name."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from etude.errors import ConfigurationError, UnsupportedOptionError
from etude.optim import builtin, low_rank, third_party
from etude.optim.recipe import ClassAndOptions, Recipe, Request, typed_options

RECIPES: dict[str, Recipe] = {**builtin.RECIPES, **third_party.RECIPES, **low_rank.RECIPES}


def optimizer_class_and_options(args: Any, model: nn.Module | None = None) -> ClassAndOptions:
    """The class that `args.optim` names, and its keyword arguments.

    The parameters are only among them (as "params") where the optimizer groups them in a way of its own.

    Raises:
        ConfigurationError: `optim_args` has an option that this optimizer does not take, or a value of the wrong type;
            `optim_target_modules` is set for an optimizer that does not look at it.
        MissingPackageError: the package that it comes from is not installed.
    """
    name = str(args.optim)
    recipe = RECIPES.get(name)
    if recipe is None:
        raise UnsupportedOptionError(f"`optim='{name}'` is not offered; choose one of {', '.join(RECIPES)}.")
    if args.optim_target_modules is not None and not recipe.low_rank:
        raise ConfigurationError(
            f"`optim_target_modules` is for the optimizers galore_* and apollo_*; optim='{name}' acts on all modules."
        )
    return recipe.build(Request(name, args, model, typed_options(name, recipe, args.optim_args)))


def is_optimizer_factory(cls: Any) -> bool:
    """Whether `cls` is not an optimizer class, and so makes an optimizer of a model: `cls()(model, **options)`."""
    return not (isinstance(cls, type) and issubclass(cls, Optimizer))
