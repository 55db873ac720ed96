"""Where a run stands in its data, its running losses and its random state, also for another number of processes."""

from __future__ import annotations

import functools
import io
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from etude.checkpoint import files
from etude.checkpoint.draft import write_tensors
from etude.checkpoint.tensors import load_tensors
from etude.core.rng import random_state, seed_for, set_seed, undisturbed
from etude.core.state import Plan, TrainerState
from etude.core.world import World
from etude.errors import CheckpointError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """How the global batches of a run are cut.

    Attributes:
        batch_size: samples of a micro-batch.
        accumulation_steps: micro-batches of each process in one update.
        world_size: number of processes.
    """

    batch_size: int
    accumulation_steps: int
    world_size: int

    @property
    def global_batch(self) -> int:
        """Samples of one update."""
        return self.batch_size * self.accumulation_steps * self.world_size

    def __str__(self) -> str:
        processes = "1 process" if self.world_size == 1 else f"{self.world_size} processes"
        return f"{self.global_batch} samples ({processes} x {self.accumulation_steps} accumulated x {self.batch_size})"


@dataclass(frozen=True)
class SavedPosition:
    """Where an interrupted run stood, besides `TrainerState`.

    Attributes:
        progress: state of the `Progress` of this process.
        at_epoch_start: random state when the epoch began, or None where the checkpoint does not have it.
        at_checkpoint: random state when the checkpoint was written, likewise.
        data: where the epoch in progress stands, as the loader tells it; None where the number of steps says it all.
    """

    progress: dict[str, Any]
    at_epoch_start: dict[str, Any] | None
    at_checkpoint: dict[str, Any] | None
    data: dict[str, Any] | None = None


# Writing


def save(folder: Path, progress_by_rank: list[dict[str, Any]], layout: Layout, asked_steps: int) -> None:
    """Writes the positions in the data and running losses of all processes, and how they cut the data.

    Args:
        asked_steps: accumulation steps of the arguments, which `layout` does not follow on another number of processes.
    """
    content = {
        "format": 1,
        "layout": asdict(layout),
        "asked_accumulation_steps": asked_steps,
        "progress": progress_by_rank,
    }
    (folder / files.ETUDE_STATE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def save_random_state(folder: Path, at_epoch_start: dict[str, Any], rank: int, world_size: int) -> None:
    """Writes the random state of this process: now, and when the epoch began."""
    state = {**random_state(), "at_epoch_start": at_epoch_start}
    write_tensors(folder / files.random_state_file(rank, world_size), state)


def save_data(folder: Path, data: dict[str, Any] | None, rank: int, world_size: int) -> None:
    """Writes where this process's loader stands, if it tells more than the number of steps.

    A state that could not be read back without running code of the file is left out, which is said.
    """
    if data is None:
        return
    packed = io.BytesIO()
    torch.save(data, packed)
    path = folder / files.data_state_file(rank, world_size)
    path.write_bytes(packed.getbuffer())
    try:
        load_tensors(path)
    except CheckpointError as error:
        path.unlink()
        _say_once(
            f"The state of the training data is not kept, a resumed run has to read past what is done: {error}"
        )


@functools.cache
def _say_once(text: str) -> None:
    logger.warning("%s", text)


# Reading


def saved_layout(folder: str) -> Layout | None:
    """How the run that wrote a checkpoint cut its global batches; None where the checkpoint does not say."""
    content = _content(folder)
    return None if content is None or "layout" not in content else Layout(**content["layout"])


def kept_accumulation(folder: str, asked: Layout, told: bool = True) -> int:
    """Accumulation steps of a run that goes on from a checkpoint: with other processes, the global batch stays.

    With as many the arguments are followed, unless they are those that the run has not followed so far.

    Args:
        asked: what the arguments say.
        told: whether this process says that they are not followed.

    Raises:
        CheckpointError: no number of accumulation steps gives the same global batch.
    """
    saved = saved_layout(folder)
    if saved is None or saved.global_batch == asked.global_batch:
        return asked.accumulation_steps
    if saved.world_size == asked.world_size:
        before = replace(
            saved, accumulation_steps=(_content(folder) or {}).get("asked_accumulation_steps", 0)
        )
        return saved.accumulation_steps if before == asked else asked.accumulation_steps
    at_once = asked.batch_size * asked.world_size
    steps, rest = divmod(saved.global_batch, at_once)
    if rest:
        raise CheckpointError(
            f"{folder} was trained with global batches of {saved}, which {asked.world_size} processes with "
            f"per_device_train_batch_size={asked.batch_size} cannot make: {_way_out(saved.global_batch, asked)}."
        )
    if told:
        logger.warning(
            "Resuming with %d instead of %d processes: global batches stay at %s, with gradient_accumulation_steps=%d "
            "instead of the %d of the arguments.",
            asked.world_size, saved.world_size, saved, steps, asked.accumulation_steps,
        )  # fmt: skip
    return steps


def _way_out(global_batch: int, asked: Layout) -> str:
    share, rest = divmod(global_batch, asked.world_size)
    if rest:
        fitting = [str(size) for size in range(1, global_batch + 1) if global_batch % size == 0]
        return f"start as many processes as divide it ({', '.join(fitting)})"
    fitting = [str(size) for size in range(1, share + 1) if share % size == 0]
    return f"set per_device_train_batch_size to one of {', '.join(fitting)}"


def load(folder: str, state: TrainerState, plan: Plan, layout: Layout, rank: int, seed: int) -> SavedPosition:
    """Where the run stood. For a checkpoint of the reference it follows from the number of steps.

    Args:
        layout: how this run cuts its global batches.
        seed: of the run.
    """
    content = _content(folder)
    world = World(rank, rank, layout.world_size)
    saved = load_random_state(folder, world, seed, state.global_step)
    if not saved:
        logger.warning(
            "%s has no random state for process %d of %d: dropout will differ.",
            folder,
            rank,
            layout.world_size,
        )
    if content is None:
        epoch, done = divmod(state.global_step, plan.updates_per_epoch)
        progress = _derived(epoch, done * layout.accumulation_steps, state)
        return SavedPosition(progress, saved.get("at_epoch_start"), saved or None)
    by_rank = content["progress"]
    before = Layout(**content["layout"]) if "layout" in content else layout
    same = len(by_rank) == layout.world_size
    if not same and rank == 0:
        logger.warning(
            "%s was written by %d processes, this run has %d: the samples of each update stay the same, what is drawn "
            "at random (dropout) does not.", folder, len(by_rank), layout.world_size,
        )  # fmt: skip
    progress = by_rank[rank] if same else _joined(by_rank)
    progress = {**progress, "micro_steps": _moved(progress["micro_steps"], before, layout, plan)}
    data = _load_data(folder, rank if same else 0, len(by_rank))
    return SavedPosition(progress, saved.get("at_epoch_start"), saved or None, data)


def load_random_state(folder: str, world: World, seed: int, step: int) -> dict[str, Any]:
    """The random state of a process; empty where the checkpoint does not have it.

    On another number of processes it is drawn anew, from the seed, the step and the rank.
    """
    content = _content(folder)
    size = world.size if content is None else len(content["progress"])
    saved = _load_random_state(folder, world.rank % size, size)
    if size == world.size or not saved:
        return saved
    began = _load_random_state(folder, 0, size).get(
        "at_epoch_start"
    )  # samplers of all processes draw the same
    with undisturbed():
        set_seed(seed_for(seed, step, world.size, world.rank))
        drawn = random_state()
    return {**drawn, **{k: v for k, v in saved.items() if k == "own"}, "at_epoch_start": began}


def _load_random_state(folder: str, rank: int, world_size: int) -> dict[str, Any]:
    path = Path(folder) / files.random_state_file(rank, world_size)
    return dict(load_tensors(path)) if path.is_file() else {}


def _load_data(folder: str, rank: int, world_size: int) -> dict[str, Any] | None:
    path = Path(folder) / files.data_state_file(rank, world_size)
    return dict(load_tensors(path)) if path.is_file() else None


def _content(folder: str) -> dict[str, Any] | None:
    path = Path(folder) / files.ETUDE_STATE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(content, dict) and content["progress"]):
            raise ValueError("no position in it")
        return content
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error


def _moved(micro_steps: int, before: Layout, now: Layout, plan: Plan) -> int:
    """The same place in the epoch, in micro-batches of this run."""
    if before == now:
        return micro_steps
    if before.global_batch == now.global_batch:
        steps = -(-micro_steps // before.accumulation_steps) * now.accumulation_steps
    else:  # the global batch was changed on purpose
        at_once = now.batch_size * now.world_size
        steps, rest = divmod(micro_steps * before.batch_size * before.world_size, at_once)
        if rest:
            logger.warning("Resuming: %d samples that are done will be trained on again.", rest)
    return steps if plan.micro_steps_per_epoch is None else min(steps, plan.micro_steps_per_epoch)


def _joined(progress_by_rank: list[dict[str, Any]]) -> dict[str, Any]:
    """The progress of all processes as that of each: of losses that are not logged yet, each holds its part."""
    pending = [progress["pending_loss"] or 0.0 for progress in progress_by_rank]
    first = next((p for p in progress_by_rank if p["pending_loss"] is not None), progress_by_rank[0])
    mean = None if first["pending_loss"] is None else sum(pending) / len(pending)
    return {**progress_by_rank[0], "pending_loss": mean, "pending_dtype": first["pending_dtype"]}


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
