"""The adapters of a PEFT model, read back in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from etude.checkpoint.tensors import load_tensors
from etude.errors import CheckpointError

ADAPTER_WEIGHTS = "adapter_model.safetensors"
OLD_ADAPTER_WEIGHTS = "adapter_model.bin"  # of version 4


def load_adapters(model: nn.Module, folder: Path) -> None:
    """Puts the weights of every adapter of `model` back; `save_pretrained` writes "default" at the top, others below.

    Raises:
        CheckpointError: an adapter is missing, or has parameters that the model has not.
    """
    from peft import set_peft_model_state_dict  # the model is one of its

    configs: dict[str, Any] = model.peft_config  # type: ignore[assignment]
    for name in configs:
        path = (folder if name == "default" else folder / name) / ADAPTER_WEIGHTS
        if not path.is_file() and path.with_name(OLD_ADAPTER_WEIGHTS).is_file():
            path = path.with_name(OLD_ADAPTER_WEIGHTS)
        if not path.is_file():
            raise CheckpointError(f"There is no adapter {name!r} in {folder}: {path} is missing.")
        weights = load_file(str(path)) if path.suffix == ".safetensors" else load_tensors(path)
        try:
            found: Any = set_peft_model_state_dict(model, weights, adapter_name=name)
        except RuntimeError as error:  # other shapes
            raise CheckpointError(
                f"The adapter {name!r} in {folder} does not fit the model: {error}"
            ) from error
        if found.unexpected_keys:
            raise CheckpointError(
                f"The adapter {name!r} in {folder} does not fit the model, which has no "
                f"{', '.join(found.unexpected_keys[:5])}. Was it trained with another configuration?"
            )
