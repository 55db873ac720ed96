"""Writing checkpoints while the training goes on.

The training is held up only while its state is copied to the host. Then a thread writes the copies, has every file
described in the manifest, forces them to the disk, and makes the checkpoint visible. One is written at a time; what goes
wrong is raised at the next step, and at the end of the training at the latest.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etude.checkpoint.draft import Draft
from etude.checkpoint.manifest import Manifest, describe_all, library_versions
from etude.checkpoint.snapshot import HostBuffers
from etude.checkpoint.store import CheckpointStore
from etude.errors import CheckpointError
from etude.strategies.base import Strategy

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes the checkpoints of a run.

    Args:
        store: where they go.
        strategy: of the run.
        background: write while the training goes on, where a save allows it.
        goes_on: a checkpoint that cannot be written is a warning, and the training goes on without it.
    """

    def __init__(
        self, store: CheckpointStore, strategy: Strategy, background: bool = True, goes_on: bool = False
    ) -> None:
        self._store = store
        self._strategy = strategy
        self._background = background
        self._goes_on = goes_on
        self._buffers = HostBuffers()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self.draft: Draft | None = None
        self.seconds_blocked = 0.0

    def save(
        self,
        step: int,
        fill: Callable[[Path], None],
        facts: dict[str, Any],
        afterwards: Callable[[], None],
        wait: bool = False,
    ) -> None:
        """Saves the checkpoint of a step. Call it on every process.

        Args:
            fill: writes this process's files into the folder that it is given, as far as it can through `draft`.
            facts: for the manifest.
            afterwards: called when the checkpoint is visible.
            wait: return only then.

        Raises:
            CheckpointError: this checkpoint, or the one before it, could not be written.
        """
        self.wait()
        began = time.perf_counter()
        try:
            folder = self._store.stage(step)
        except CheckpointError as error:
            self._failure = error
            self.check()
            return
        self._buffers.begin()
        self.draft = draft = Draft(folder, self._buffers if self._background and not wait else None)

        def copy() -> None:
            fill(folder)
            draft.settle()

        failure = self._attempt(copy)
        self.draft = None

        def complete() -> None:
            self._complete(step, draft, failure, facts, afterwards)

        if wait or not self._background:
            complete()
            self.check()
        else:
            self._thread = threading.Thread(target=complete, name=f"checkpoint-{step}")
            self._thread.start()
        self.seconds_blocked += time.perf_counter() - began

    def check(self) -> None:
        """Raises what went wrong with a checkpoint, if that is known by now."""
        failure, self._failure = self._failure, None
        if failure is None:
            return
        if self._goes_on and isinstance(failure, CheckpointError):
            logger.warning("%s The training goes on without it.", failure)
        else:
            raise failure

    def wait(self) -> None:
        """Waits until no checkpoint is being written.

        Raises:
            CheckpointError: it could not be written.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            began = time.perf_counter()
            thread.join()
            self.seconds_blocked += time.perf_counter() - began
        self.check()

    def drain(self) -> None:
        """Waits until no checkpoint is being written, when something else has gone wrong already."""
        try:
            self.wait()
        except CheckpointError as error:
            logger.error("%s", error)

    def _complete(
        self,
        step: int,
        draft: Draft,
        failure: Exception | None,
        facts: dict[str, Any],
        afterwards: Callable[[], None],
    ) -> None:
        """Writes what was put off and makes the checkpoint visible, unless a process has failed."""
        if failure is None:
            failure = self._attempt(draft.finish)
        channel = self._strategy.channel()
        failures = channel.gather_objects(None if failure is None else str(failure))
        if not any(failures) and self._store.writes:
            failure = self._attempt(lambda: self._publish(step, draft.folder, facts))
        failures = channel.gather_objects(None if failure is None else str(failure))
        if not any(failures):
            self._store.adopt(step)
            failure = self._attempt(afterwards)
        if failure is None and any(failures):
            failure = CheckpointError(next(text for text in failures if text))
        if failure is not None:
            if any(failures) and self._store.writes:
                shutil.rmtree(draft.folder, ignore_errors=True)  # it is in the way of nothing if it stays
            self._failure = self._told(step, failure)

    def _publish(self, step: int, folder: Path, facts: dict[str, Any]) -> None:
        world_size = self._strategy.world.size
        facts = {"libraries": library_versions(), **facts}
        Manifest(step, world_size, describe_all(folder), facts).save(folder)
        self._store.publish(step, folder)

    def _told(self, step: int, failure: Exception) -> Exception:
        if not isinstance(failure, OSError):  # a mistake in code that takes part in saving
            return failure
        told = CheckpointError(
            f"The checkpoint of step {step} could not be written to {self._store.output_dir}: {failure}. Earlier "
            "checkpoints are whole."
        )
        told.__cause__ = failure
        return told

    @staticmethod
    def _attempt(function: Callable[[], Any]) -> Exception | None:
        """What `function` raises. The other processes wait for this one, so nothing may pass it by."""
        try:
            function()
        except Exception as error:
            return error
        return None
