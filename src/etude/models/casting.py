"""Evaluating in half precision throughout: half the memory on the device."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from etude.core import nested


@contextmanager
def cast_model(model: nn.Module, dtype: torch.dtype | None, device: torch.device) -> Iterator[None]:
    """While it lasts, the model's floating-point tensors are `dtype` on `device`; the originals wait on the host.

    Afterwards the model has its own weights again, to the bit, on the device.

    Args:
        dtype: None: leave everything as it is.
    """
    if dtype is None:
        yield
        return
    tensors = list(itertools.chain(model.parameters(), model.buffers()))
    originals = [tensor.data.cpu() for tensor in tensors]
    for tensor in tensors:
        tensor.data = tensor.data.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

    def cast_inputs(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return nested.apply(to_dtype, args), nested.apply(to_dtype, kwargs)

    def to_dtype(leaf: Any) -> Any:
        floating = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        return leaf.to(dtype) if floating else leaf

    handle = model.register_forward_pre_hook(cast_inputs, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
        for tensor, original in zip(tensors, originals, strict=True):
            tensor.data = original.to(device)
