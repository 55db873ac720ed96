"""Activation checkpointing: activations are computed again in backward, rather than kept in memory.

Models that know how (those of transformers) are asked to. In any other model, the repeated blocks are found: the
longest list of modules of the same class.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from etude.errors import ConfigurationError


def enable_recomputation(model: nn.Module, options: dict[str, Any] | None) -> None:
    """Switches activation checkpointing on, for good.

    Args:
        options: `every_n_layers` (1) and `offload` (False; keep what is left on the host); all others go to
            `torch.utils.checkpoint.checkpoint`.

    Raises:
        ConfigurationError: the model has no repeated blocks, or cannot do what the options ask for.
    """
    own = dict(options or {})
    every, offload = own.pop("every_n_layers", 1), own.pop("offload", False)
    enable = getattr(model, "activation_checkpointing_enable", None)
    if enable is not None:
        enable(activation_checkpointing_kwargs=own or None, every_n_layers=every, offload=offload)
        return
    enable = getattr(model, "gradient_checkpointing_enable", None)
    if enable is not None:
        _enable_under_older_name(model, enable, own, every, offload)
        return
    if offload:
        raise ConfigurationError(
            f"`activation_checkpointing_kwargs` has offload=True, which {type(model).__name__} does not know (models "
            "of transformers do): leave `offload` out."
        )
    for block in repeated_blocks(model)[::every]:
        _recompute(block, {"use_reentrant": False, **own})


def _enable_under_older_name(
    model: nn.Module, enable: Any, options: dict[str, Any], every: int, offload: bool
) -> None:
    parameters = inspect.signature(enable).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    extras = {
        name: value
        for name, value, default in (("every_n_layers", every, 1), ("offload", offload, False))
        if value != default
    }
    unknown = [name for name in extras if not takes_any and name not in parameters]
    if unknown:
        raise ConfigurationError(
            f"`activation_checkpointing_kwargs` has {', '.join(unknown)}, which "
            f"{type(model).__name__}.gradient_checkpointing_enable does not take: leave it out."
        )
    if options or extras:
        enable(gradient_checkpointing_kwargs=options or None, **extras)
    else:
        enable()


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The layers of the model: the longest list of modules of one class.

    Raises:
        ConfigurationError: there is none.
    """
    lists = [
        list(module.children())
        for module in model.modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1
    ]
    alike = [blocks for blocks in lists if len({type(block) for block in blocks}) == 1]
    if not alike:
        raise ConfigurationError(
            f"`activation_checkpointing` finds no repeated layers in {type(model).__name__}: keep them in an "
            "nn.ModuleList, or give the model a method `activation_checkpointing_enable`."
        )
    return max(alike, key=len)


def _recompute(block: nn.Module, options: dict[str, Any]) -> None:
    forward = block.forward
    if hasattr(forward, "__wrapped__") and getattr(forward, "recomputes", False):  # by an earlier training
        return

    @functools.wraps(forward)
    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if not block.training:
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, **options, **kwargs)

    recomputed.recomputes = True  # type: ignore[attr-defined]
    block.forward = recomputed
