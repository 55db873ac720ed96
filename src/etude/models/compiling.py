"""`torch.compile` of a model's forward, in place: the model stays the object that the user gave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn


class Compilation:
    """Runs models compiled.

    Args:
        enabled: otherwise everything is left as it is.
        backend, mode: of `torch.compile`.
    """

    def __init__(self, enabled: bool, backend: str | None = None, mode: str | None = None) -> None:
        self.enabled = enabled
        self._options: dict[str, Any] = {"backend": backend or "inductor"}
        if mode is not None:
            self._options["mode"] = mode
        self._compiled: WeakKeyDictionary[nn.Module, tuple[Any, Any]] = WeakKeyDictionary()

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """While it lasts, `model.forward` is compiled; parameter names, hooks and class stay what they were."""
        own = vars(model).get("forward")  # set on the instance, by a library that patches models
        forward = model.forward
        if not self.enabled or any(forward is compiled for _, compiled in self._compiled.values()):
            yield  # switched off, or an evaluation inside a training
            return
        source = getattr(forward, "__func__", forward)
        known, compiled = self._compiled.get(model, (None, None))
        if known is not source:
            compiled = torch.compile(forward, **self._options)
            self._compiled[model] = (source, compiled)
        model.forward = compiled
        try:
            yield
        finally:
            if own is None:
                del model.forward
            else:
                model.forward = own
