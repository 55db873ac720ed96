"""Copies of tensors on the host, into memory that is used again for the next copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class HostBuffers:
    """Memory on the host for copies of a run's state.

    The first copy allocates; later ones of tensors of the same names and shapes do not. Tensors that share their memory
    share it in the copy.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}
        self._copied: dict[tuple[Any, ...], torch.Tensor] = {}

    def begin(self) -> None:
        """Starts a new copy: what was copied before may be overwritten from now on."""
        self._copied.clear()

    def copy(self, name: str, value: Any) -> Any:
        """`value` with new containers, and every tensor in it copied to the host; all else is taken as it is.

        Copies from a device are under way when this returns: call `wait` before they are used.
        """
        if isinstance(value, torch.Tensor):
            return self._tensor(name, value)
        if isinstance(value, Mapping):
            copied = {key: self.copy(f"{name}/{key}", item) for key, item in value.items()}
            return type(value)(copied) if type(value) is not dict else copied  # type: ignore[call-arg]
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(self.copy(f"{name}/{i}", item) for i, item in enumerate(value))
        return value

    def _tensor(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach()
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in self._copied:
            return self._copied[place]
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            pinned = tensor.device.type == "cuda"  # which the device can write to on its own
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            self._buffers[name] = buffer
        buffer.copy_(tensor, non_blocking=True)
        self._copied[place] = buffer
        return buffer

    def missing_bytes(self, value: Any) -> int:
        """About how many more bytes a copy of `value` would take."""
        return max(0, size_in_bytes(value) - size_in_bytes(self._buffers) + size_in_bytes(self._copied))

    @staticmethod
    def wait() -> None:
        """Waits until copies from a device have arrived."""
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()


def size_in_bytes(value: Any) -> int:
    """Bytes of all tensors in `value`; memory that several share is counted for each."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(size_in_bytes(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(size_in_bytes(item) for item in value)
    return 0
