"""Liger's fused Triton kernels in place of a transformers model's own layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from etude.errors import ConfigurationError
from etude.optional import is_instance_of, require


def apply_liger_kernel(model: nn.Module, options: dict[str, Any] | None) -> None:
    """Replaces the layers of `model` for which there is a kernel.

    Args:
        options: switches of single kernels, such as {"rope": False}.

    Raises:
        MissingPackageError: `liger-kernel` is not installed.
        ConfigurationError: it is no model of transformers.
    """
    liger = require("liger_kernel.transformers", "`use_liger_kernel`", "liger-kernel")
    inner = model.get_base_model() if is_instance_of(model, "peft", "PeftModel") else model  # type: ignore[operator]
    if not is_instance_of(inner, "transformers", "PreTrainedModel"):
        raise ConfigurationError(
            f"`use_liger_kernel` works on models of transformers; {type(inner).__name__} is not one."
        )
    liger._apply_liger_kernel_to_instance(model=inner, **(options or {}))
