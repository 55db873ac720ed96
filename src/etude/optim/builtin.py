"""Optimizers that need nothing but PyTorch."""

from __future__ import annotations

import logging

import torch
from torch import nn

from etude.optim.adafactor import Adafactor
from etude.optim.recipe import ClassAndOptions, Recipe, Request, flag, number

logger = logging.getLogger(__name__)


def adamw(request: Request) -> ClassAndOptions:
    """AdamW."""
    return torch.optim.AdamW, {**request.rate, **request.adam}


def adamw_fused(request: Request) -> ClassAndOptions:
    """AdamW in one kernel; where PyTorch has none for a parameter, the plain implementation of the same update."""
    options = {**request.rate, **request.adam}
    reason = None if request.model is None else _why_not_fused(request.model)
    if reason is None:
        return torch.optim.AdamW, {**options, "fused": True}
    logger.warning("optim='%s': %s; the plain AdamW does the same update, slower.", request.name, reason)
    return torch.optim.AdamW, options


def _why_not_fused(model: nn.Module) -> str | None:
    """What PyTorch has no fused AdamW for among the model's parameters, or None. PyTorch itself is asked."""
    kinds = {(p.device.type, p.dtype) for p in model.parameters() if p.requires_grad}
    for device, dtype in sorted(kinds, key=str):
        probe = nn.Parameter(torch.zeros(1, dtype=dtype, device=device))
        probe.grad = torch.zeros_like(probe)
        try:
            torch.optim.AdamW([probe], fused=True).step()
        except RuntimeError:
            return f"PyTorch has no fused kernel for {dtype} on {device!r}"
    return None


def adafactor(request: Request) -> ClassAndOptions:
    """Adafactor that leaves the learning rate to the schedule."""
    return Adafactor, {**request.rate, "scale_parameter": False, "relative_step": False}


def sgd(request: Request) -> ClassAndOptions:
    """Stochastic gradient descent."""
    return torch.optim.SGD, {**request.rate, **request.given}


def adagrad(request: Request) -> ClassAndOptions:
    """Adagrad."""
    return torch.optim.Adagrad, {**request.rate, **request.given}


def rmsprop(request: Request) -> ClassAndOptions:
    """RMSprop."""
    return torch.optim.RMSprop, {**request.rate, **request.given}


RECIPES = {
    "adamw_torch": Recipe(adamw),
    "adamw_torch_fused": Recipe(adamw_fused),
    "adafactor": Recipe(adafactor),
    "sgd": Recipe(sgd, {"momentum": number, "dampening": number, "nesterov": flag}),
    "adagrad": Recipe(adagrad, {"lr_decay": number, "eps": number}),
    "rmsprop": Recipe(rmsprop, {"momentum": number, "alpha": number, "eps": number, "centered": flag}),
}
