"""Going on from a checkpoint: what is read back, and what it is read into."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from etude.checkpoint import files
from etude.checkpoint.sharding import joined, optimizer_files
from etude.checkpoint.tensors import load_tensors
from etude.core.state import TrainerState
from etude.errors import CheckpointError
from etude.optim.by_metric import needs_metric

logger = logging.getLogger(__name__)


def load_trainer_state(folder: str) -> TrainerState:
    """The `TrainerState` of a checkpoint."""
    return TrainerState.load_from_json(str(Path(folder) / files.TRAINER_STATE))


def load_optimizer(folder: str, optimizer: Any, scheduler: Any) -> None:
    """Restores optimizer and schedule.

    Raises:
        CheckpointError: a file is missing, or does not fit.
    """
    parts = optimizer_files(Path(folder))
    schedule = Path(folder) / files.SCHEDULER
    missing = files.OPTIMIZER if not parts else files.SCHEDULER if not schedule.is_file() else None
    if missing is not None:
        raise CheckpointError(
            f"{folder} has no {missing}, so the run cannot go on as it was (was it written with save_only_model?). To "
            "go on with a fresh optimizer, set resume_with_fresh_optimizer=True."
        )
    elsewhere = _is_on_a_device(optimizer)
    _load_into(optimizer, joined([load_tensors(path, mapped=elsewhere) for path in parts]), parts[0])
    if elsewhere:
        _leave_files(optimizer)
    _load_into(scheduler, load_tensors(schedule), schedule)


def _is_on_a_device(optimizer: Any) -> bool:
    """Whether the state goes to a device, tensor by tensor: the host then needs no memory for all of it."""
    groups = getattr(optimizer, "param_groups", [])
    return any(parameter.device.type != "cpu" for group in groups for parameter in group["params"])


def _leave_files(optimizer: Any) -> None:
    """Copies what has stayed on the host, as counts of steps do: files that are mapped may be removed."""
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.device.type == "cpu":
                state[name] = value.clone()


def _load_into(part: Any, state: Any, path: Path) -> None:
    try:
        part.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{path} does not fit {type(part).__name__}: {error}. To go on with a fresh optimizer, set "
            "resume_with_fresh_optimizer=True."
        ) from error


def begin_afresh(scheduler: Any, step: int) -> None:
    """Moves a new schedule, and its optimizer's learning rates, on to a step; one that goes by a metric just begins."""
    if needs_metric(scheduler):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer has not moved, and should not
        for _ in range(step):
            scheduler.step()
