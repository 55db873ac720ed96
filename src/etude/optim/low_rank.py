"""GaLore and APOLLO: Adam's moments of chosen linear layers kept in a space of low rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from etude.errors import ConfigurationError
from etude.optim.groups import decay_parameter_names
from etude.optim.layerwise import LAYERWISE, moving_in_backward, refuse_what_needs_all_gradients
from etude.optim.recipe import ClassAndOptions, Recipe, Request, count, number, one_of
from etude.optional import require


def galore(request: Request) -> ClassAndOptions:
    """GaLore (Zhao et al., 2024): gradients projected before they reach the moments."""
    kind = request.name.removesuffix(LAYERWISE).removeprefix("galore_")
    names = {"adamw": "GaLoreAdamW", "adamw_8bit": "GaLoreAdamW8bit", "adafactor": "GaLoreAdafactor"}
    purpose = f"optim='{request.name}'"
    module = require("galore_torch", purpose, "galore-torch")
    _readable(require("galore_torch.galore_projector", purpose, "galore-torch").GaLoreProjector)
    projection = {"rank": 128, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std", **request.given}
    own = {"scale_parameter": False, "relative_step": False} if kind == "adafactor" else request.changed_adam
    return _with_groups(request, getattr(module, names[kind]), projection, own)


def apollo(request: Request) -> ClassAndOptions:
    """APOLLO (Zhu et al., 2024): step sizes of channels from moments of a random projection."""
    purpose = f"optim='{request.name}'"
    module = require("apollo_torch", purpose, "apollo-torch")
    _readable(require("apollo_torch.random_projector", purpose, "apollo-torch").GradientProjector)
    _readable(require("apollo_torch.svd_projector", purpose, "apollo-torch").GaLoreProjector)
    projection = {
        "rank": 128,
        "proj": "random",
        "scale_type": "channel",
        "update_proj_gap": 200,
        "scale": 1.0,
        "proj_type": "std",
        **request.given,
    }
    return _with_groups(request, module.APOLLOAdamW, {**projection, **request.adam}, request.changed_adam)


def _with_groups(
    request: Request, cls: Any, projection: dict[str, Any], own: dict[str, Any]
) -> ClassAndOptions:
    targets = target_parameters(request)
    assert request.model is not None
    chosen = {id(parameter) for parameter in targets}
    others = [p for p in request.model.parameters() if p.requires_grad and id(p) not in chosen]
    if request.name.endswith(LAYERWISE):
        refuse_what_needs_all_gradients(request)
        cls = moving_in_backward(cls)
    groups = [*_by_decay(request, others, {}), *_by_decay(request, targets, projection)]
    return cls, {**request.rate, **own, "params": groups}


def _readable(projector: type) -> None:
    """Lets checkpoints be read that hold such an object; nothing else in them may be more than tensors."""
    torch.serialization.add_safe_globals([projector])


def _by_decay(
    request: Request, parameters: Sequence[torch.Tensor], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """One group; two where weight decay is on, as biases and norms are exempt from it."""
    decay = request.args.weight_decay
    if not decay:
        return [{"params": list(parameters), "weight_decay": 0.0, **options}]
    assert request.model is not None
    named = dict(request.model.named_parameters())
    decayed = {id(named[name]) for name in decay_parameter_names(request.model)}
    return [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": decay, **options},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0, **options},
    ]


def target_parameters(request: Request) -> list[torch.Tensor]:
    """The weights of the linear layers that `optim_target_modules` means.

    Raises:
        ConfigurationError: it is not set, of the wrong type, or means no layer.
    """
    targets, model = request.args.optim_target_modules, request.model
    if targets is None:
        raise ConfigurationError(
            f"You need to define `optim_target_modules` to use {request.name}: names or patterns of linear layers, or "
            "'all-linear'."
        )
    if not isinstance(targets, (str, list)) or not all(isinstance(t, str) for t in targets):
        raise ConfigurationError(
            "`optim_target_modules` must be a list of strings, a regular expression, or 'all-linear', it is "
            f"{targets!r}."
        )
    if model is None:
        raise ConfigurationError(f"You need to pass a model to initialize the {request.name} optimizer.")
    weights = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and _is_meant(targets, name) and module.weight.requires_grad
    ]
    if not weights:
        raise ConfigurationError(
            f"No target modules found for {request.name} ({targets}): no linear layer that is trained has such a name."
        )
    return weights


def _is_meant(targets: str | list[str], name: str) -> bool:
    """Whether the module `name` is meant: one text is a pattern of the whole name, one of a list also a part of it."""
    if isinstance(targets, str):
        return targets.replace("_", "-") == "all-linear" or re.fullmatch(targets, name) is not None
    return any(target in name or re.fullmatch(target, name) for target in targets)


PROJECTION = {"rank": count, "update_proj_gap": count, "scale": number}
SIDES = one_of("std", "reverse_std", "right", "left", "full")
GALORE = Recipe(galore, {**PROJECTION, "proj_type": SIDES}, low_rank=True)
APOLLO = Recipe(
    apollo,
    {
        **PROJECTION,
        "proj": one_of("random", "svd"),
        "scale_type": one_of("channel", "tensor"),
        "proj_type": SIDES,
    },
    low_rank=True,
)
RECIPES = {
    **dict.fromkeys(("galore_adamw", "galore_adamw_8bit", "galore_adafactor"), GALORE),
    **dict.fromkeys(
        ("galore_adamw_layerwise", "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise"), GALORE
    ),
    **dict.fromkeys(("apollo_adamw", "apollo_adamw_layerwise"), APOLLO),
}
