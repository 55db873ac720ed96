"""Copies of tensors on the host, into memory that is used again for the next copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

Path = tuple[Any, ...]  # keys and indices on the way to a tensor
_IMMUTABLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


class HostBuffers:
    """Memory on the host for copies of a run's state.

    The first copy allocates; later ones of tensors of the same names and shapes do not. Tensors that share their memory
    share it in the copy.
    """

    def __init__(self) -> None:
        self._buffers: dict[Path, torch.Tensor] = {}
        self._used: set[Path] = set()
        self._devices: set[torch.device] = set()
        self._arrivals: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Starts a new copy: what was copied before may be overwritten from now on."""
        self._buffers = {path: self._buffers[path] for path in self._used}
        self._used.clear()

    def release(self) -> None:
        """Gives the memory back."""
        self._buffers.clear()
        self._used.clear()

    def copy(self, name: str, value: Any) -> Any:
        """`value` with new containers, and every tensor in it copied to the host.

        Copies from a device are under way when this returns. Everything in `value` must be copyable.
        """
        return self._copied((name,), value, {})

    def _copied(self, path: Path, value: Any, known: dict[Any, torch.Tensor]) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(path, value.detach(), known)
        if isinstance(value, dict):
            copied = copy.copy(value)
            copied.update((key, self._copied((*path, key), item, known)) for key, item in value.items())
            return copied
        if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
            items = [self._copied((*path, i), item, known) for i, item in enumerate(value)]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value

    def _tensor(self, path: Path, tensor: torch.Tensor, known: dict[Any, torch.Tensor]) -> torch.Tensor:
        # Addresses say what is shared only while all tensors live, which is as long as one call of `copy` has them.
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in known:
            return known[place]
        if not self._has_room(path, tensor):
            pinned = tensor.device.type == "cuda"  # which the device can write to on its own
            self._buffers[path] = torch.empty_like(tensor, device="cpu", pin_memory=pinned)
        self._used.add(path)
        self._devices.add(tensor.device)
        known[place] = self._buffers[path].copy_(tensor, non_blocking=True)
        return known[place]

    def _has_room(self, path: Path, tensor: torch.Tensor) -> bool:
        buffer = self._buffers.get(path)
        return buffer is not None and buffer.shape == tensor.shape and buffer.dtype == tensor.dtype

    def missing_bytes(self, name: str, value: Any) -> int:
        """How many more bytes a copy of `value` would take."""
        known: set[int] = set()
        total = 0
        for path, tensor in tensors_in((name,), value):
            if not self._has_room(path, tensor) and tensor.data_ptr() not in known:
                known.add(tensor.data_ptr())
                total += size_in_bytes(tensor)
        return total

    def mark(self) -> None:
        """Ends a copy. What the devices are given to do from now on comes after it."""
        self._arrivals = [_arrival(device) for device in self._devices if device.type != "cpu"]
        self._devices.clear()

    def wait(self) -> None:
        """Waits until the copies have arrived. From any thread."""
        for wait_for in self._arrivals:
            wait_for()


def _arrival(device: torch.device) -> Callable[[], None]:
    """What waits for all that a device has been given to do so far."""
    if device.type != "cuda":
        torch.accelerator.synchronize(device)
        return lambda: None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def is_copyable(value: Any) -> bool:
    """Whether a copy of `value` is independent of it for sure: plain containers of plain tensors and of constants."""
    if isinstance(value, torch.Tensor):
        plain = type(value) in (torch.Tensor, nn.Parameter) and value.layout is torch.strided
        return plain and not value.is_quantized and not value.is_meta
    if isinstance(value, dict):
        return all(is_copyable(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(is_copyable(item) for item in value)
    return isinstance(value, _IMMUTABLE)


def tensors_in(path: Path, value: Any) -> Iterator[tuple[Path, torch.Tensor]]:
    """Every tensor in `value` with the way to it."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in((*path, key), item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from tensors_in((*path, index), item)


def size_in_bytes(value: Any) -> int:
    """Bytes of all tensors in `value`; memory that several share is counted for each."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors_in((), value))
