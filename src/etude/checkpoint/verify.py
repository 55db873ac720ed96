"""Is a checkpoint whole? By its manifest, or, where it has none (one of the reference), by how its files are built."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etude.checkpoint import files
from etude.checkpoint.manifest import Manifest
from etude.errors import CheckpointError

# What `torch.save` wrote before PyTorch 1.6: a pickled number at the beginning.
_OLD_TORCH_FILE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OF_A_CHECKPOINT = (files.MANIFEST, files.TRAINER_STATE, files.ETUDE_STATE, files.OPTIMIZER, files.SCHEDULER)


def verify(folder: Path, contents: bool = True) -> None:
    """Makes sure that a checkpoint is as it was written.

    Args:
        contents: read every byte; otherwise only see whether all files are there and as long as they were.

    Raises:
        CheckpointError: it is not; names the file.
    """
    _verify(folder, lambda name: True, contents)
    if not (folder / files.TRAINER_STATE).is_file():
        raise CheckpointError(f"{folder} is broken: it has no {files.TRAINER_STATE}.")


def verify_weights(folder: Path) -> None:
    """Makes sure that the weights of a checkpoint are as they were written.

    Raises:
        CheckpointError: they are not, or there are none; names the file.
    """
    _verify(folder, lambda name: _is_weights(Path(name).name))
    if not any(_is_weights(path.name) for path in _files_in(folder)):
        raise CheckpointError(f"{folder} is broken: it has no weights.")


def is_foreign(folder: Path) -> bool:
    """Whether a folder with a checkpoint's name has nothing of one in it."""
    return not any((folder / name).is_file() for name in _OF_A_CHECKPOINT)


def _verify(folder: Path, only: Callable[[str], bool], contents: bool = True) -> None:
    try:
        manifest = Manifest.load(folder)
        if manifest is None:
            _verify_structure(folder, only)
        elif contents:
            manifest.verify(folder, only)
        else:
            manifest.verify_sizes(folder, only)
    except OSError as error:  # a disk that cannot be read
        raise CheckpointError(f"{folder} is broken: it cannot be read ({error}).") from error


def _verify_structure(folder: Path, only: Callable[[str], bool]) -> None:
    for path in _files_in(folder):
        name = path.relative_to(folder).as_posix()
        problem = problem_of(path) if only(name) else None
        if problem is not None:
            raise CheckpointError(f"{folder} is broken: {name} {problem}.")


def problem_of(path: Path) -> str | None:
    """What is wrong with how a file is built, as far as its kind is known; None: nothing."""
    name = path.name
    if name == files.TRAINER_STATE:
        return None if isinstance(_json_of(path).get("global_step"), int) else "cannot be read"
    if name.endswith(".index.json"):
        return _problem_of_index(path)
    if name.endswith(".safetensors"):
        return _problem_of_safetensors(path)
    return _problem_of_torch_file(path) if _is_torch_file(name) else None


def _problem_of_index(path: Path) -> str | None:
    parts = _json_of(path).get("weight_map")
    if not isinstance(parts, dict):
        return "cannot be read"
    gone = sorted({name for name in parts.values() if not (path.parent / name).is_file()})
    return f"names {gone[0]}, which is gone" if gone else None


def _problem_of_safetensors(path: Path) -> str | None:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= size - 8:
            return "is cut off in its header"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return "has a header that cannot be read"
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"has {size:,} bytes instead of {expected:,}"


def _problem_of_torch_file(path: Path) -> str | None:
    with path.open("rb") as file:
        if file.read(len(_OLD_TORCH_FILE)) == _OLD_TORCH_FILE:
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # there is no telling what wrong bytes lead to
        return f"cannot be read ({error})"
    return None if damaged is None else f"is damaged in {damaged}"


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".safetensors.index.json", ".bin.index.json")) or (
        name.endswith(".bin") and name.startswith(("pytorch_model", "adapter_model"))
    )


def _is_torch_file(name: str) -> bool:
    if name.endswith((".pt", ".pth")):
        return True
    return name == files.TRAINING_ARGS or (name.endswith(".bin") and _is_weights(name))


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _json_of(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
