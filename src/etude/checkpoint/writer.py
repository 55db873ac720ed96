"""Writing checkpoints while the training goes on.

The training is held up only while its state is copied to the host. Then a thread writes the copies, describes every
file in the manifest, forces all to the disk, and makes the checkpoint visible. One is written at a time; what goes
wrong is raised at the next step, and at the end of the training at the latest.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from etude.checkpoint import files
from etude.checkpoint.draft import Draft
from etude.checkpoint.manifest import Manifest, describe_all, library_versions
from etude.checkpoint.remote import Mirror
from etude.checkpoint.snapshot import HostBuffers
from etude.checkpoint.store import CheckpointStore
from etude.errors import CheckpointError
from etude.strategies.base import Channel, Strategy

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes the checkpoints of a run.

    Args:
        store: where they go.
        strategy: of the run.
        background: write while the training goes on, where a save allows it.
        goes_on: a checkpoint that cannot be written is a warning, and the training goes on without it.
        mirror: uploads them, where they are kept on another storage too.
    """

    def __init__(
        self,
        store: CheckpointStore,
        strategy: Strategy,
        background: bool = True,
        goes_on: bool = False,
        mirror: Mirror | None = None,
    ) -> None:
        self._store = store
        self._strategy = strategy
        self._background = background
        self._goes_on = goes_on
        self._mirror = mirror
        self._buffers = HostBuffers()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._told_that_it_waits = False
        self.draft: Draft | None = None
        self.seconds_blocked = 0.0
        self.seconds_of_last_save: float | None = None

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
            self._raise_failure()
            return
        draft = Draft(folder, None if wait else self._empty_buffers())

        def complete(failure: Exception | None) -> None:
            self._complete(step, draft, failure, facts, afterwards)
            self.seconds_of_last_save = time.perf_counter() - began

        failure = self._attempt(lambda: self._filled(draft, fill))
        if wait or not self._background:
            complete(failure)
            self._raise_failure()
        else:
            self._tell_that_it_waits(draft)
            self._thread = threading.Thread(target=complete, args=[failure], name=f"checkpoint-{step}")
            self._thread.start()
        self.seconds_blocked += time.perf_counter() - began

    def has_written(self, step: int) -> bool:
        """Whether there is a checkpoint of that step."""
        return self._store.path(step).is_dir()

    def check(self) -> None:
        """Raises what went wrong with a checkpoint, if that is known by now."""
        if self._mirror is not None:
            self._mirror.advance()
            self._failure = self._failure or self._mirror.failure()
        self._raise_failure()

    def _raise_failure(self) -> None:
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
        if self._thread is not None:
            began = time.perf_counter()
            self._thread.join()
            self._thread = None
            self.seconds_blocked += time.perf_counter() - began
        self.check()

    def finish(self) -> None:
        """Waits until no checkpoint is being written or uploaded, and gives the memory for copies back.

        Raises:
            CheckpointError: it could not be written.
        """
        try:
            self.wait()
        finally:
            if self._thread is None:
                self._buffers.release()
            if self._mirror is not None:
                self._mirror.finish()
        self.check()

    def drain(self) -> None:
        """The same when something else has gone wrong already."""
        try:
            self.finish()
        except Exception as error:  # the one that is being raised is the one to see
            logger.error("%s", error)

    def _empty_buffers(self) -> HostBuffers | None:
        if self._background:
            self._buffers.begin()
            return self._buffers
        return None

    def _filled(self, draft: Draft, fill: Callable[[Path], None]) -> None:
        self.draft = draft
        try:
            fill(draft.folder)
            draft.settle()
        finally:
            self.draft = None

    def _tell_that_it_waits(self, draft: Draft) -> None:
        if draft.in_the_way is not None and not self._told_that_it_waits:
            self._told_that_it_waits = True
            logger.warning("Checkpoints are written while the training waits: %s.", draft.in_the_way)

    def _complete(
        self,
        step: int,
        draft: Draft,
        failure: Exception | None,
        facts: dict[str, Any],
        afterwards: Callable[[], None],
    ) -> None:
        """Writes what was put off and makes the checkpoint visible, unless a process has failed."""
        try:
            failure = self._write(step, draft, failure, facts)
            if failure is None:
                afterwards()
        except Exception as error:  # also that the other processes cannot be reached
            failure = error
        if failure is not None:
            self._failure = self._told(step, failure)

    def _write(
        self, step: int, draft: Draft, failure: Exception | None, facts: dict[str, Any]
    ) -> Exception | None:
        if failure is None:
            failure = self._attempt(draft.finish)
        channel = self._strategy.channel()
        failures = channel.gather_objects(None if failure is None else _text(failure))
        if not any(failures) and self._store.on_each_node:
            failure = self._share(channel, draft.folder)
        if failure is None and not any(failures) and self._store.writes:
            failure = self._attempt(lambda: self._publish(step, draft.folder, facts))
        failures = channel.gather_objects(None if failure is None else _text(failure))
        if not any(failures):
            self._store.adopt(step)
        elif self._store.writes:
            shutil.rmtree(draft.folder, ignore_errors=True)  # it is in the way of nothing if it stays
        if failure is None and any(failures):
            failure = CheckpointError(next(text for text in failures if text))
        return failure

    def _share(self, channel: Channel, folder: Path) -> Exception | None:
        """Completes the checkpoint on each machine's disk by what processes of other machines alone have written."""
        world = self._strategy.world
        own: dict[str, bytes] = {}
        kinds = (files.random_state_file, files.data_state_file)
        paths = [folder / name_of(world.rank, world.size) for name_of in kinds]
        failure = self._attempt(
            lambda: own.update({path.name: path.read_bytes() for path in paths if path.is_file()})
        )
        for of_one in channel.gather_objects(own):
            for name, content in of_one.items():
                if self._store.writes and not (folder / name).exists():
                    failure = failure or self._attempt(partial((folder / name).write_bytes, content))
        return failure

    def _publish(self, step: int, folder: Path, facts: dict[str, Any]) -> None:
        world_size = self._strategy.world.size
        facts = {"libraries": library_versions(), **facts}
        Manifest(step, world_size, describe_all(folder), facts).save(folder)
        self._store.publish(step, folder)

    def _told(self, step: int, failure: Exception) -> Exception:
        if not _is_of_the_disk(failure):  # a mistake in code that takes part in saving
            return failure
        told = CheckpointError(
            f"The checkpoint of step {step} could not be written to {self._store.output_dir}: {_text(failure)}. "
            "Earlier checkpoints are whole."
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


def _text(failure: Exception) -> str:
    """What an exception says; never empty."""
    return str(failure) or type(failure).__name__


def _is_of_the_disk(failure: Exception) -> bool:
    """Whether writing failed, in the words of Python, of safetensors, or of `torch.save`."""
    if isinstance(failure, RuntimeError):
        return any(
            word in str(failure) for word in ("PytorchStreamWriter", "inline_container", "iostream error")
        )
    return isinstance(failure, (OSError, SafetensorError))
