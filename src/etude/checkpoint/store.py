"""The folder of a run's checkpoints: writing one as a whole, finding them, removing old ones.

A checkpoint is written to a staging folder, forced to the disk, and renamed. `checkpoint-N` is therefore either
complete or not there.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterable, Set
from pathlib import Path

from etude.checkpoint.files import FOLDER_PREFIX, STAGING_PREFIX, TRAINER_STATE
from etude.checkpoint.storage import Storage, is_url
from etude.errors import CheckpointError
from etude.strategies.base import Strategy

logger = logging.getLogger(__name__)

_NAME = re.compile(rf"^{FOLDER_PREFIX}-(0|[1-9]\d*)$")


class CheckpointStore:
    """The checkpoints in one output folder, as all processes of a run use them together.

    Args:
        output_dir: the folder.
        strategy: of the run.
        on_each_node: the folder is on a disk of each machine's own: the first process of each makes its checkpoints.

    Attributes:
        on_each_node: likewise.
        writes: whether this process makes folders, renames and removes them.
    """

    def __init__(self, output_dir: str, strategy: Strategy, on_each_node: bool = False) -> None:
        self.output_dir = Path(output_dir)
        self.on_each_node = on_each_node
        self.writes = strategy.world.is_local_main if on_each_node else strategy.world.is_main
        self._strategy = strategy
        self._own: set[int] = set()

    def begin(self, step: int) -> None:
        """A run starts at `step`: the checkpoints up to there are its own, any others are left alone."""
        if self.writes:
            self.remove_leftovers()
        self._own = {found for found in self.steps() if found <= step} if step else set()

    def path(self, step: int) -> Path:
        """Where the checkpoint of that step is, or would be."""
        return self.output_dir / f"{FOLDER_PREFIX}-{step}"

    def stage(self, step: int) -> Path:
        """An empty folder for the files of that step's checkpoint, not visible as one. Call it on every process.

        Raises:
            CheckpointError: it cannot be made.
        """
        staging = self.output_dir / f"{STAGING_PREFIX}{self.path(step).name}"
        failure: OSError | None = None
        if self.writes:
            try:
                self.remove_leftovers()
                staging.mkdir(parents=True)
            except OSError as error:  # the others must not wait for this process; it is raised below
                failure = error
        if self._strategy.agree([failure is not None])[0]:
            reason = failure or "see the main process"
            raise CheckpointError(
                f"The checkpoint of step {step} cannot be written to {self.output_dir}: {reason}."
            )
        return staging

    def publish(self, step: int, staging: Path) -> None:
        """Makes a complete folder the checkpoint of that step. For the process that writes, when all are done.

        Raises:
            OSError: it could not be forced to the disk, or made visible.
        """
        try:
            commit(staging, self.path(step))
        finally:
            if not staging.exists():  # visible, whatever came after that
                self.adopt(step)

    def adopt(self, step: int) -> None:
        """Counts the checkpoint of that step among those of this run."""
        self._own.add(step)

    def recover(self) -> None:
        """Puts back a checkpoint that was about to be replaced when a write was killed. Call it on every process."""
        if self.writes:
            self._put_back()
        self._strategy.barrier()

    def _put_back(self) -> None:
        replaced = f"{STAGING_PREFIX}replaced-"
        for folder in self.output_dir.glob(f"{replaced}*"):
            target = folder.with_name(folder.name.removeprefix(replaced))
            if not target.exists():
                os.rename(folder, target)

    def remove_leftovers(self) -> None:
        """Removes what a write that was killed has left behind, and puts back what it had taken away."""
        self._put_back()
        for folder in self.output_dir.glob(f"{STAGING_PREFIX}*"):
            shutil.rmtree(folder, ignore_errors=True)  # what stays is in the way of nothing

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, in order."""
        return checkpoint_steps(self.output_dir)

    def _own_steps(self) -> list[int]:
        return [step for step in self.steps() if step in self._own]

    def prune(self, keep: int | None, protected: str | None) -> None:
        """Removes all but the `keep` newest checkpoints of this run, by step; never the newest, nor the protected one.

        Args:
            keep: how many to keep, counting the protected one; None or 0 keeps all.
            protected: path of a checkpoint that stays.
        """
        if not self.writes:
            return
        steps = self._own_steps()
        stays = {step for step in steps if protected is not None and same_folder(self.path(step), protected)}
        self._remove(expendable(steps, keep, stays))

    def keep_only(self, path: str) -> None:
        """Removes every checkpoint of this run but this one, if it is there."""
        if self.writes and os.path.isdir(path):
            self._remove(step for step in self._own_steps() if not same_folder(self.path(step), path))

    def _remove(self, steps: Iterable[int]) -> None:
        for step in steps:
            try:
                remove(self.path(step))
            except OSError as error:  # the training does not need the room yet
                logger.warning("The old checkpoint %s could not be removed: %s.", self.path(step), error)


def expendable(steps: list[int], keep: int | None, protected: Set[int | None]) -> list[int]:
    """Which of the steps need not be kept: all but the `keep` newest and those protected; never the newest.

    Args:
        steps: in order.
        keep: how many to keep, counting those protected; None or 0 keeps all.
        protected: steps that stay.
    """
    if not keep or keep < 0:
        return []
    stays = set(steps[-1:]) | {step for step in steps if step in protected}
    for step in reversed(steps):
        if len(stays) < keep:
            stays.add(step)
    return [step for step in steps if step not in stays]


def commit(staging: Path, target: Path) -> None:
    """Makes a complete staging folder visible under its name, in place of an older one."""
    for path in sorted(staging.rglob("*")):
        _sync(path)
    _sync(staging)
    replaced = None
    if target.exists():
        replaced = staging.with_name(f"{STAGING_PREFIX}replaced-{target.name}")
        os.rename(target, replaced)
    try:
        os.rename(staging, target)
    except OSError:
        if replaced is not None:
            os.rename(replaced, target)
        raise
    _sync(target.parent)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)


def remove(folder: Path) -> None:
    """Removes a checkpoint so that a half removed one is never visible."""
    hidden = folder.with_name(f"{STAGING_PREFIX}removed-{folder.name}")
    os.rename(folder, hidden)
    shutil.rmtree(hidden)


def checkpoint_steps(output_dir: str | os.PathLike[str]) -> list[int]:
    """Steps of the checkpoints in a folder, in order."""
    folder = Path(output_dir)
    if not folder.is_dir():
        return []
    found = ((_NAME.match(path.name), path) for path in folder.iterdir())
    return sorted(int(match.group(1)) for match, path in found if match and (path / TRAINER_STATE).is_file())


def get_last_checkpoint(folder: str) -> str | None:
    """Path of the checkpoint with the highest step in `folder`, or None; a URL for the URL of a folder."""
    if is_url(folder):
        found = Storage(folder).steps()
        return f"{folder.rstrip('/')}/{FOLDER_PREFIX}-{found[-1]}" if found else None
    steps = checkpoint_steps(folder)
    return os.path.join(folder, f"{FOLDER_PREFIX}-{steps[-1]}") if steps else None


def same_folder(one: Path, other: str) -> bool:
    """Whether two paths lead to the same folder."""
    return os.path.realpath(one) == os.path.realpath(other)


def _sync(path: Path) -> None:
    """Forces a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
