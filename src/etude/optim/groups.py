"""Which parameters are trained together: decayed or not, and at which learning rate."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

# Parameters with these in their dotted name are exempt: biases and norms, as in the reference.
EXEMPT = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def decay_parameter_names(model: nn.Module) -> list[str]:
    """Names of the parameters that weight decay acts on: all but biases and the parameters of norms."""
    in_norms = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for name, _ in module.named_parameters(recurse=False)
    }
    return [
        name
        for name, _ in model.named_parameters()
        if name not in in_norms and not EXEMPT.search(name.lower())
    ]


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    decayed: Collection[str],
    rates: Mapping[str, float] | None = None,
    base_rate: float = 0.0,
) -> list[dict[str, Any]]:
    """Groups of trained parameters: those in `decayed`, and the rest without decay.

    Args:
        rates: learning rate of each parameter by name; each rate makes groups of its own.
        base_rate: the groups that have it come first, so that the log shows it.
    """
    names = set(decayed)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if rates is None:
        return [
            {"params": [p for name, p in trained if name in names], "weight_decay": weight_decay},
            {"params": [p for name, p in trained if name not in names], "weight_decay": 0.0},
        ]
    by_kind: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in trained:
        by_kind.setdefault((rates[name], name in names), []).append(parameter)
    order = sorted(by_kind, key=lambda kind: kind[0] != base_rate)
    return [
        {"params": by_kind[rate, decays], "weight_decay": weight_decay if decays else 0.0, "lr": rate}
        for rate, decays in order
    ]


def is_empty(groups: Any) -> bool:
    """Whether these are parameter groups, and none of them has a parameter."""
    return isinstance(groups, list) and all(isinstance(g, dict) and not g.get("params", True) for g in groups)
