"""Which parameters are decayed, and which are not."""

from __future__ import annotations

import re
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


def parameter_groups(model: nn.Module, weight_decay: float, decayed: list[str]) -> list[dict[str, Any]]:
    """Two groups of trainable parameters: those in `decayed`, and the rest without decay."""
    names = set(decayed)
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in trainable if name in names], "weight_decay": weight_decay},
        {"params": [p for name, p in trainable if name not in names], "weight_decay": 0.0},
    ]
