"""The optimizer's state in parts, one for each process that has all of it: each writes its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.checkpoint import files
from etude.checkpoint.snapshot import size_in_bytes
from etude.errors import CheckpointError


def part_of(state_dict: dict[str, Any], rank: int, size: int) -> dict[str, Any] | None:
    """The part of an optimizer's state that process `rank` of `size` writes; None where it has none to write.

    Parameters are dealt out so that all write about the same number of bytes. Groups are in every part.
    """
    state = state_dict.get("state")
    if size == 1 or not isinstance(state, Mapping) or len(state) < size:
        return state_dict if rank == 0 else None
    loads = [0] * size
    own: dict[Any, Any] = {}
    for key in sorted(state, key=lambda key: (-size_in_bytes(state[key]), str(key))):
        lightest = loads.index(min(loads))
        loads[lightest] += max(1, size_in_bytes(state[key]))
        if lightest == rank:
            own[key] = state[key]
    return {**state_dict, "state": own}


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole state of all its parts."""
    if len(parts) == 1:
        return parts[0]
    whole: dict[Any, Any] = {}
    for part in parts:
        whole |= part["state"]
    ordered = {key: whole[key] for key in sorted(whole, key=lambda key: (not isinstance(key, int), key))}
    return {**parts[0], "state": ordered}


def optimizer_files(folder: Path) -> list[Path]:
    """The files of a checkpoint that hold the optimizer's state: one, or all its parts.

    Raises:
        CheckpointError: a part is missing.
    """
    if (folder / files.OPTIMIZER).is_file():
        return [folder / files.OPTIMIZER]
    found = sorted(folder.glob(files.optimizer_file(0, 0).replace("00000", "*")))
    if not found:
        return []
    size = int(found[0].stem.rpartition("-")[2])
    wanted = [folder / files.optimizer_file(rank, size) for rank in range(size)]
    missing = [path.name for path in wanted if path not in found]
    if missing:
        raise CheckpointError(f"{folder} is broken: {', '.join(missing)} is gone.")
    return wanted
