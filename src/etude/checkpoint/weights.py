"""The weights of a model, to and from a folder, in the reference's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file
from torch import nn

from etude.checkpoint.adapters import load_adapters
from etude.checkpoint.draft import Draft
from etude.checkpoint.files import OLD_WEIGHTS, OLD_WEIGHTS_INDEX, WEIGHTS, WEIGHTS_INDEX
from etude.checkpoint.tensors import load_tensors
from etude.errors import CheckpointError
from etude.optional import is_instance_of


def save_weights(
    model: nn.Module, folder: str, state_dict: dict[str, Any] | None = None, draft: Draft | None = None
) -> None:
    """Writes the model: with its own `save_pretrained` where it has one, else as one safetensors file.

    Tensors that several parameters share are written once. Of a model with adapters, only they are written.
    """
    if draft is not None and _writes_what_it_is_given(model):
        held = draft.copy("model", model.state_dict() if state_dict is None else state_dict)
        if hasattr(model, "save_pretrained"):
            draft.later(lambda: model.save_pretrained(folder, state_dict=held))  # type: ignore[operator]
        else:
            draft.later(lambda: _save_shared_once(held, folder))
    elif hasattr(model, "save_pretrained"):
        model.save_pretrained(folder, state_dict=state_dict)  # type: ignore[operator]
    else:
        _save_shared_once(model.state_dict() if state_dict is None else state_dict, folder)


def _writes_what_it_is_given(model: nn.Module) -> bool:
    """Whether a copy of the weights can be written in the model's place: nothing is written by code of its own."""
    if not hasattr(model, "save_pretrained"):
        return True
    if not is_instance_of(model, "transformers", "PreTrainedModel") or getattr(model, "hf_quantizer", None):
        return False
    own = getattr(type(model), "save_pretrained", None)
    return getattr(own, "__module__", "") == "transformers.modeling_utils"


def _save_shared_once(state_dict: dict[str, torch.Tensor], folder: str) -> None:
    """Writes a state dictionary; of names for the same tensor the first is kept, as `safetensors.save_model` does."""
    kept: dict[tuple[Any, ...], str] = {}
    metadata = {"format": "pt"}
    tensors = {}
    for name, tensor in state_dict.items():
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        first = kept.setdefault(place, name) if tensor.numel() else name
        if first == name:
            tensors[name] = tensor.contiguous()
        else:
            metadata[name] = first
    save_file(tensors, str(Path(folder) / WEIGHTS), metadata=metadata)


def load_weights(model: nn.Module, folder: str) -> None:
    """Puts the weights of a folder into the model.

    Raises:
        CheckpointError: there are none, or they do not fit the model.
    """
    path = Path(folder)
    try:
        if is_instance_of(model, "peft", "PeftModel", "PeftMixedModel"):
            load_adapters(model, path)
        elif (path / WEIGHTS).is_file():
            load_model(model, str(path / WEIGHTS), strict=True)
        elif parts := _parts(path):
            _load_parts(model, parts)
        else:
            raise CheckpointError(f"There are no weights in {folder}: neither {WEIGHTS} nor {WEIGHTS_INDEX}.")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"The weights in {folder} cannot be read: {error}") from error
    except RuntimeError as error:
        if not hasattr(type(model), "from_pretrained"):
            raise CheckpointError(f"The weights in {folder} do not fit the model. {error}") from error
        _load_through_class(model, folder, error)


def _parts(folder: Path) -> list[Path]:
    """The files with the weights, where they are several, or as version 4 of transformers wrote them."""
    for index in (WEIGHTS_INDEX, OLD_WEIGHTS_INDEX):
        if (folder / index).is_file():
            names = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / name for name in sorted(set(names))]
    return [folder / OLD_WEIGHTS] if (folder / OLD_WEIGHTS).is_file() else []


def _load_parts(model: nn.Module, paths: list[Path]) -> None:
    missing = set(model.state_dict())
    for path in paths:
        part = load_file(str(path)) if path.suffix == ".safetensors" else load_tensors(path)
        missing -= part.keys()
        unexpected = model.load_state_dict(part, strict=False).unexpected_keys
        if unexpected:
            raise RuntimeError(f"{path.name} has parameters that the model has not: {', '.join(unexpected)}")
    shared = {tensor.data_ptr() for key, tensor in model.state_dict().items() if key not in missing}
    absent = [key for key in missing if model.state_dict()[key].data_ptr() not in shared]
    if absent:
        raise RuntimeError(f"parameters of the model are not in the files: {', '.join(sorted(absent))}")


def _load_through_class(model: nn.Module, folder: str, error: RuntimeError) -> None:
    """For models whose files have other parameter names than their modules: the class knows how to read them."""
    try:
        loaded, found = type(model).from_pretrained(folder, output_loading_info=True)  # type: ignore[attr-defined]
        if any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")):
            raise error  # what is missing would be drawn at random
        with torch.no_grad():
            model.load_state_dict(loaded.state_dict(), strict=True)
    except RuntimeError:
        raise CheckpointError(f"The weights in {folder} do not fit the model. {error}") from error


def stored_tensors(folder: Path) -> dict[str, Callable[[], torch.Tensor]]:
    """The weights of a checkpoint by name, each read when it is called for.

    Raises:
        CheckpointError: a file cannot be read.
    """
    found: dict[str, Callable[[], torch.Tensor]] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            file = safe_open(str(path), framework="pt")
        except SafetensorError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        prefix = "".join(f"{part}/" for part in path.parent.relative_to(folder).parts)
        found |= {f"{prefix}{name}": partial(file.get_tensor, name) for name in file.offset_keys()}  # type: ignore[no-untyped-call]
    if not found:
        for path in _parts(folder):
            found |= {name: tensor.clone for name, tensor in load_tensors(path).items()}
    return found
