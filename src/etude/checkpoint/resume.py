"""Going on from a checkpoint: what is read back, and what it is read into."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.checkpoint import files
from etude.checkpoint.sharding import joined, optimizer_files
from etude.checkpoint.tensors import load_tensors
from etude.core.state import Plan, TrainerState
from etude.errors import CheckpointError
from etude.optim.by_metric import needs_metric

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedPosition:
    """Where an interrupted run stood, besides `TrainerState`.

    Attributes:
        progress: state of the `Progress` of this process.
        at_epoch_start: random state when the epoch began, or None where the checkpoint does not have it.
        at_checkpoint: random state when the checkpoint was written, likewise.
    """

    progress: dict[str, Any]
    at_epoch_start: dict[str, Any] | None
    at_checkpoint: dict[str, Any] | None


def load_trainer_state(folder: str) -> TrainerState:
    """The `TrainerState` of a checkpoint."""
    return TrainerState.load_from_json(str(Path(folder) / files.TRAINER_STATE))


def load_optimizer(folder: str, optimizer: Any, scheduler: Any) -> None:
    """Restores optimizer and schedule.

    Raises:
        CheckpointError: a file is missing.
    """
    parts = optimizer_files(Path(folder))
    schedule = Path(folder) / files.SCHEDULER
    missing = files.OPTIMIZER if not parts else files.SCHEDULER if not schedule.is_file() else None
    if missing is not None:
        raise CheckpointError(
            f"{folder} has no {missing}, so the run cannot go on as it was (was it written with save_only_model?). To "
            "go on with a fresh optimizer, set resume_with_fresh_optimizer=True."
        )
    _load_into(optimizer, joined([load_tensors(path) for path in parts]), parts[0])
    _load_into(scheduler, load_tensors(schedule), schedule)


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


def load_random_state(folder: str, rank: int, world_size: int) -> dict[str, Any]:
    """The random state of a process; empty where the checkpoint does not have it."""
    path = Path(folder) / files.random_state_file(rank, world_size)
    return dict(load_tensors(path)) if path.is_file() else {}


def load_position(
    folder: str, state: TrainerState, plan: Plan, steps: int, rank: int, world_size: int
) -> SavedPosition:
    """Where the run stood. For a checkpoint of the reference it follows from the number of steps.

    Args:
        steps: micro-batches of each process in one update.
    """
    saved = load_random_state(folder, rank, world_size)
    if not saved:
        logger.warning(
            "%s has no random state for process %d of %d: dropout will differ.", folder, rank, world_size
        )
    own = Path(folder) / files.ETUDE_STATE
    if own.is_file():
        by_rank = json.loads(own.read_text(encoding="utf-8"))["progress"]
        if len(by_rank) != world_size:
            raise CheckpointError(
                f"{folder} was written by {len(by_rank)} processes, this run has {world_size}: resume it with "
                f"{len(by_rank)}."
            )
        progress = by_rank[rank]
    else:
        epoch, done = divmod(state.global_step, plan.updates_per_epoch)
        progress = _derived(epoch, done * steps, state)
    return SavedPosition(progress, saved.get("at_epoch_start"), saved or None)


def _derived(epoch: int, micro_steps: int, state: TrainerState) -> dict[str, Any]:
    logged = [row for row in state.log_history if "loss" in row]
    previous = [0, *(row["step"] for row in logged)]
    total = sum(row["loss"] * (row["step"] - before) for row, before in zip(logged, previous, strict=False))
    return {
        "epoch": epoch,
        "micro_steps": micro_steps,
        "last_logged_step": state.global_step,
        "stop_epoch": False,
        "stop_training": False,
        "learning_rate": None,
        "grad_norm": None,
        "pending_loss": None,
        "pending_dtype": None,
        "logged_loss": total,
    }
