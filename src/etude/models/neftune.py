"""NEFTune: uniform noise on the embeddings while training (https://arxiv.org/abs/2310.05914)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from etude.errors import ConfigurationError


@contextmanager
def noisy_embeddings(model: nn.Module, alpha: float | None) -> Iterator[Any]:
    """While it lasts, the model's input embeddings get noise in training mode, and none in evaluation.

    Args:
        alpha: noise is drawn from -alpha to alpha, over sqrt(length * width); None: no noise.

    Yields:
        The handle of the hook, or None.

    Raises:
        ConfigurationError: the model has no `get_input_embeddings`.
    """
    if alpha is None:
        yield None
        return
    get = getattr(model, "get_input_embeddings", None)
    if get is None:
        raise ConfigurationError(
            f"`neftune_noise_alpha` needs to know the input embeddings: give {type(model).__name__} a method "
            "`get_input_embeddings()` that returns them."
        )

    def add_noise(module: nn.Module, arguments: Any, embedded: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return embedded
        bound = alpha / math.sqrt(embedded.shape[-2] * embedded.shape[-1])
        return embedded + torch.zeros_like(embedded).uniform_(-bound, bound)

    handle = get().register_forward_hook(add_noise)
    try:
        yield handle
    finally:
        handle.remove()
