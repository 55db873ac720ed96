"""Number formats of the forward pass, and the loss scaling that float16 needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from etude.core import nested
from etude.errors import ConfigurationError


class Precision:
    """Full precision: everything runs as it is written."""

    name = "float32"
    kind = "no"  # accelerate's name of it
    overflow_is_normal = False
    scaler: torch.amp.GradScaler | None = None

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """While it lasts, `model` runs in this precision. Leaves no trace on the model."""
        yield

    def autocast(self) -> AbstractContextManager[Any]:
        """A context in which code outside of the model runs in this precision."""
        return nullcontext()

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss as backward should see it."""
        return loss

    def unscale(self, optimizer: Optimizer) -> None:
        """Brings the gradients back to the size of the unscaled loss."""

    def step(self, optimizer: Optimizer) -> bool:
        """Moves the weights. Returns False where the step had to be left out."""
        optimizer.step()
        return True

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint; empty where there is none."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that state back."""


class AutocastPrecision(Precision):
    """Mixed precision: PyTorch's autocast around the model's forward, whose floating outputs become float32.

    Losses and metrics computed outside the model therefore run in float32, as in the reference. Hooks of the module
    open and close the context, so that `model.forward` stays the user's own function.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.name = f"{str(dtype).removeprefix('torch.')} (autocast)"
        self._dtype = dtype
        self._device_type = device.type
        self.kind = "fp16" if dtype == torch.float16 else "bf16"
        self._running: set[int] = set()

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device_type, dtype=self._dtype)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        if id(model) in self._running:  # an evaluation inside a training
            yield
            return
        open_contexts: list[torch.autocast] = []

        def enter(module: nn.Module, arguments: Any) -> None:
            context = torch.autocast(self._device_type, dtype=self._dtype)
            context.__enter__()  # type: ignore[no-untyped-call]
            open_contexts.append(context)

        def leave(module: nn.Module, arguments: Any, outputs: Any) -> Any:
            if open_contexts:  # not where a hook before `enter` has failed
                open_contexts.pop().__exit__(None, None, None)
            return nested.apply(_to_float32, outputs)

        handles = [
            model.register_forward_pre_hook(enter),
            # always_call: an error inside forward must not leave autocast switched on
            model.register_forward_hook(leave, always_call=True),
        ]
        self._running.add(id(model))
        try:
            yield
        finally:
            self._running.discard(id(model))
            for handle in handles:
                handle.remove()
            while open_contexts:  # hooks do not run after a KeyboardInterrupt
                open_contexts.pop().__exit__(None, None, None)


class ScaledPrecision(AutocastPrecision):
    """float16 with PyTorch's GradScaler: gradients that would underflow are computed from a larger loss."""

    overflow_is_normal = True
    scaler: torch.amp.GradScaler

    def __init__(self, device: torch.device) -> None:
        super().__init__(torch.float16, device)
        self.scaler = torch.amp.GradScaler(device.type)
        self._unscaled = False

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        return self.scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        if not self._unscaled:  # a subclass of the Trainer may have done so already
            self.scaler.unscale_(optimizer)
            self._unscaled = True

    def step(self, optimizer: Optimizer) -> bool:
        self._unscaled = False
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        return bool(self.scaler.get_scale() >= before)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.scaler.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state_dict)


def _to_float32(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.float16, torch.bfloat16):
        return leaf.float()
    return leaf


def select_precision(bf16: bool, fp16: bool, device: torch.device) -> Precision:
    """The precision that the arguments ask for.

    Raises:
        ConfigurationError: the device cannot do it.
    """
    if fp16:
        return ScaledPrecision(device)
    if not bf16:
        return Precision()
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigurationError("`bf16=True` needs a GPU with bfloat16 (Ampere or newer): use `fp16=True`.")
    return AutocastPrecision(torch.bfloat16, device)


@contextmanager
def float32_matmul(tf32: bool | None) -> Iterator[None]:
    """While it lasts, products of float32 matrices on a GPU use TensorFloat32, or do not; None leaves it as it is."""
    if tf32 is None:
        yield
        return
    backends: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn,
    )
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def select_tf32(tf32: bool | None, compiled: bool, reduced: bool, device: torch.device) -> bool | None:
    """Whether float32 products use TensorFloat32.

    Args:
        tf32: as asked for; None: yes for a compiled float32 model on a GPU that has it, as in the reference.
        compiled: whether the model is compiled.
        reduced: whether it runs in a shorter format anyway.

    Raises:
        ConfigurationError: it was asked for and the device has it not.
    """
    available = device.type == "cuda" and torch.cuda.is_tf32_supported()
    if tf32 and not available:
        raise ConfigurationError(
            f"`tf32=True` needs an NVIDIA GPU of the Ampere generation or newer; this run is on {device}. Leave it out."
        )
    if tf32 is None:
        return True if compiled and available and not reduced else None
    return tf32
