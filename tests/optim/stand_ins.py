"""Modules that stand in for optimizer packages, so that what they are asked for can be compared."""

from __future__ import annotations

import importlib.metadata
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

PACKAGES = {
    "torch_xla.amp.syncfree": ["AdamW"],
    "torch_npu.optim": ["NpuFusedAdamW"],
    "torchdistx.optimizers": ["AnyPrecisionAdamW"],
    "bitsandbytes.optim": ["AdamW", "Lion", "RMSprop", "AdEMAMix"],
    "torchao.optim": ["AdamW4bit", "AdamW8bit"],
    "galore_torch": ["GaLoreAdamW", "GaLoreAdamW8bit", "GaLoreAdafactor"],
    "galore_torch.galore_projector": ["GaLoreProjector"],
    "apollo_torch": ["APOLLOAdamW"],
    "apollo_torch.random_projector": ["GradientProjector"],
    "apollo_torch.svd_projector": ["GaLoreProjector"],
    "grokadamw": ["GrokAdamW"],
    "optimi": ["StableAdamW"],
    "schedulefree": ["AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree"],
}


class AnyOptimizer(torch.optim.SGD):
    """Takes whatever it is given, and descends."""

    def __init__(self, params: Any, lr: float = 0.1, **options: Any) -> None:
        super().__init__(params, lr=lr)
        self.options = options


class Manager:
    """In place of the one that bitsandbytes asks for the bits of each parameter."""

    overrides: list[tuple[Any, str, dict[str, int]]]

    @classmethod
    def get_instance(cls) -> type[Manager]:
        return cls

    @classmethod
    def register_module_override(cls, module: Any, name: str, config: dict[str, int]) -> None:
        cls.overrides.append((module, name, config))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the stand-ins in place, and makes the reference believe that the packages are installed."""
    from transformers import trainer_optimizer

    for name, classes in PACKAGES.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            if not isinstance(sys.modules.get(path), StandIn):
                monkeypatch.setitem(sys.modules, path, StandIn(path))
            if end > 1:
                setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], sys.modules[path])
        for cls in classes:
            made = type(cls, (AnyOptimizer,), {"__module__": name})
            setattr(sys.modules[name], cls, made)
    Manager.overrides = []
    sys.modules["bitsandbytes.optim"].GlobalOptimManager = Manager  # type: ignore[attr-defined]
    for check in [
        name for name in vars(trainer_optimizer) if name.startswith("is_") and name.endswith("_available")
    ]:
        monkeypatch.setattr(trainer_optimizer, check, lambda *_: True)
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99.0" if name == "torchao" else version(name)
    )


class StandIn(ModuleType):
    """One of them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
