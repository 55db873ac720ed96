"""Where a value first became infinite or NaN in the forward pass: `debug="underflow_overflow"`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from etude.errors import ConfigurationError, ModelOutputError

_TITLE = f"{'abs min':>9} {'abs max':>9}  tensor"


class DebugUnderflowOverflow:
    """Watches every module's forward, and stops at the first whose weights, inputs or outputs are inf or NaN.

    Then the smallest and largest absolute values of the last modules are printed, oldest first, so that one can see
    where they began to grow. Slow: every tensor is looked at, and each look waits for the device.

    Raises ModelOutputError (a ValueError) then.

    Args:
        model: the model to watch, until `remove` is called.
        max_frames_to_save: how many modules are printed.
        trace_batch_nums: print every module in these batches, counted from 0, and do not stop in them.
        abort_after_batch_num: stop after that batch.
    """

    def __init__(
        self,
        model: nn.Module,
        max_frames_to_save: int = 21,
        trace_batch_nums: list[int] | None = None,
        abort_after_batch_num: int | None = None,
    ) -> None:
        self.model = model
        self.trace_batch_nums = trace_batch_nums or []
        self.abort_after_batch_num = abort_after_batch_num
        self.batch_number = 0
        self._traced = -1
        self.frames: deque[str] = deque(maxlen=max_frames_to_save)
        self._names = {module: name or "(the model)" for name, module in model.named_modules()}
        self._hooks = [
            module.register_forward_hook(self._look_at, with_kwargs=True) for module in self._names
        ]

    def remove(self) -> None:
        """Stops watching."""
        for hook in self._hooks:
            hook.remove()

    def _look_at(self, module: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        lines, bad = [f"{'':19}  {self._names[module]}: {type(module).__name__}"], []
        for name, tensor in _tensors(module, inputs, keywords, output):
            smallest, largest, finite = _extent(tensor)
            lines.append(f"{smallest:9.2e} {largest:9.2e}  {name}{'' if finite else '  <-- not finite'}")
            bad += [] if finite else [name]
        if self.batch_number in self.trace_batch_nums:
            self._trace(lines)
        else:
            self.frames.append("\n".join(lines))
            if bad:
                self._stop(module, bad)
        if module is self.model:
            self._finish_batch()

    def _trace(self, lines: list[str]) -> None:
        if self._traced != self.batch_number:
            print(f"\nbatch {self.batch_number}\n{_TITLE}")
            self._traced = self.batch_number
        print("\n".join(lines), flush=True)

    def _stop(self, module: nn.Module, bad: list[str]) -> None:
        print(
            f"\nbatch {self.batch_number}: the last {len(self.frames)} modules, the newest at the end\n{_TITLE}"
        )
        print("\n".join(self.frames), flush=True)
        raise ModelOutputError(
            f"{self._names[module]} ({type(module).__name__}) has inf or NaN in {', '.join(bad)}, in batch "
            f"{self.batch_number} since watching began; the modules before it are printed above."
        )

    def _finish_batch(self) -> None:
        number, self.batch_number = self.batch_number, self.batch_number + 1
        if self.abort_after_batch_num is not None and number >= self.abort_after_batch_num:
            raise ConfigurationError(f"Stopped after batch {number}, as `abort_after_batch_num` asks for.")


@contextmanager
def watched(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Watches `model` while the block runs, if that is wanted."""
    watcher = DebugUnderflowOverflow(model) if wanted else None
    try:
        yield
    finally:
        if watcher is not None:
            watcher.remove()


def _tensors(
    module: nn.Module, inputs: Any, keywords: Any, output: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    """The floating-point tensors of one forward, by a name that says where they are."""
    yield from module.named_parameters(recurse=False)
    for index, value in enumerate(inputs):
        yield from _named(value, f"input[{index}]")
    yield from _named(keywords, "input")
    yield from _named(output, "output")


def _named(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and value.numel():
            yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _named(item, f"{name}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _named(item, f"{name}[{index}]")


def _extent(tensor: torch.Tensor) -> tuple[float, float, bool]:
    """Smallest and largest absolute value, and whether all are finite, in one trip from the device."""
    with torch.no_grad():
        smallest, largest = torch.aminmax(tensor.detach().abs())
        low, high = torch.stack([smallest, largest]).tolist()
    return low, high, high < float("inf")
