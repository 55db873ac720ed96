"""Whether what a model computes for a sample depends on the other samples of its micro-batch."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from etude.core.signature import base_model, can_return_loss
from etude.errors import ConfigurationError


def require_independent_samples(model: nn.Module, option: str) -> None:
    """Refuses models for which it matters which samples are in a micro-batch together.

    Those are models with batch normalisation, contrastive ones such as CLIP, and those that say so themselves with an
    attribute `samples_depend_on_each_other = True` (for in-batch negatives, say).

    Raises:
        ConfigurationError: it is such a model.
    """
    reason = _dependence(base_model(model))
    if reason is not None:
        raise ConfigurationError(
            f"`{option}` changes which samples are computed together, and {type(base_model(model)).__name__} {reason}: "
            f"the update would be another one. Leave out `{option}`."
        )


def _dependence(model: nn.Module) -> str | None:
    declared = getattr(model, "samples_depend_on_each_other", None)
    if declared is not None:
        return "says that its samples depend on each other" if declared else None
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and any(p.requires_grad for p in module.parameters()):
            return f"normalises over the batch (in {name or 'itself'})"
    return "compares the samples of a batch with each other" if can_return_loss(model) else None
