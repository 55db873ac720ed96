"""What a checkpoint contains besides the weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from etude.checkpoint import files
from etude.checkpoint.draft import Draft, write_tensors
from etude.checkpoint.sharding import part_of
from etude.core.state import TrainerState


def save_optimizer(draft: Draft, optimizer: Any, rank: int, world_size: int) -> None:
    """Writes this process's part of the optimizer's state."""
    state_dict = optimizer.state_dict()
    shared = part_of(state_dict, 1, world_size) is not None
    part = part_of(state_dict, rank, world_size)
    if part is not None:
        draft.save_tensors(draft.folder / files.optimizer_file(rank, world_size if shared else 1), part)


def save_schedule(folder: Path, scheduler: Any) -> None:
    """Writes the state of the schedule."""
    write_tensors(folder / files.SCHEDULER, scheduler.state_dict())


def save_scaler(folder: Path, scaler_state: dict[str, Any]) -> None:
    """Writes the state of the loss scaler, where there is one."""
    if scaler_state:
        write_tensors(folder / files.SCALER, scaler_state)


def save_arguments(folder: Path, args: Any) -> None:
    """Writes the arguments: readable, and as the reference's pickled object."""
    (folder / files.TRAINING_ARGS_JSON).write_text(args.to_json_string() + "\n", encoding="utf-8")
    shared = copy.copy(args)
    shared.hub_token = None  # the file may be shared
    write_tensors(folder / files.TRAINING_ARGS, shared)


def is_exportable(part: Any) -> bool:
    """Whether a callback keeps state in checkpoints."""
    return callable(getattr(part, "state", None)) and callable(getattr(type(part), "from_state", None))


def exported_states(parts: list[Any]) -> dict[str, Any]:
    """State of each part by class name; several parts of one class: a list in their order."""
    states: dict[str, Any] = {}
    for part in filter(is_exportable, parts):
        name = type(part).__name__
        if name not in states:
            states[name] = part.state()
        elif isinstance(states[name], list):
            states[name].append(part.state())
        else:
            states[name] = [states[name], part.state()]
    return states


def restored_callbacks(callbacks: list[Any], state: TrainerState) -> tuple[list[Any], list[str]]:
    """The callbacks with those replaced that have a state in the checkpoint.

    Returns:
        The callbacks in their order, and the names in the checkpoint that none of them has.
    """
    waiting = {n: list(s) if isinstance(s, list) else [s] for n, s in dict(state.stateful_callbacks).items()}
    waiting.pop("TrainerControl", None)
    restored = []
    for callback in callbacks:
        name = type(callback).__name__
        if is_exportable(callback) and waiting.get(name):
            callback = type(callback).from_state(waiting[name].pop(0))
        restored.append(callback)
    known = {type(callback).__name__ for callback in callbacks}
    return restored, [name for name in waiting if name not in known]
