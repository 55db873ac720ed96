"""The names of a checkpoint's files, those of the reference and etude's own."""

from __future__ import annotations

import re

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
OLD_WEIGHTS = "pytorch_model.bin"  # of version 4
OLD_WEIGHTS_INDEX = "pytorch_model.bin.index.json"
OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"
SCALER = "scaler.pt"
TRAINER_STATE = "trainer_state.json"
TRAINING_ARGS = "training_args.bin"
TRAINING_ARGS_JSON = "training_args.json"
ETUDE_STATE = "etude_state.json"  # position in the data and running losses, which the reference does not keep
MANIFEST = "manifest.json"  # every file with its size and hash
FOLDER_PREFIX = "checkpoint"
STAGING_PREFIX = ".staging-"

_NUMBERED = re.compile(rf"{FOLDER_PREFIX}-(0|[1-9]\d*)")


def step_of(name: str) -> int | None:
    """The step that a checkpoint's folder is named for; None: it is not the name of one."""
    match = _NUMBERED.fullmatch(name)
    return int(match.group(1)) if match else None


def random_state_file(rank: int, world_size: int) -> str:
    """Name of the file with the random state of one process."""
    return "rng_state.pth" if world_size == 1 else f"rng_state_{rank}.pth"


def data_state_file(rank: int, world_size: int) -> str:
    """Name of the file with what one process's training loader tells of its place in the data."""
    return "data_state.pt" if world_size == 1 else f"data_state_{rank}.pt"


def optimizer_file(rank: int, world_size: int) -> str:
    """Name of the file with a process's part of the optimizer's state."""
    return OPTIMIZER if world_size == 1 else f"optimizer-{rank:05d}-of-{world_size:05d}.pt"
