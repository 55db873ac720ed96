"""The copy of a run's folder on another storage: what is uploaded, when, and what is removed there.

The run writes to a folder on this machine. A checkpoint that has become visible there is given second names (hard
links), so that it may be removed locally, and is sent by a thread. One is sent at a time; of those that wait, the
newest and the best so far are sent, and the others are not.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.checkpoint.download import DOWNLOAD_PREFIX, fetch_for_resume, from_main
from etude.checkpoint.files import step_of
from etude.checkpoint.storage import Storage, checkpoint_name, is_url, local_folder
from etude.checkpoint.store import expendable
from etude.core.trees import files_below, lay_out, link
from etude.errors import CheckpointError, ConfigurationError
from etude.strategies.base import Strategy

logger = logging.getLogger(__name__)

UPLOAD_PREFIX = ".upload-"


@dataclass(frozen=True)
class Upload:
    """A checkpoint to be sent.

    Attributes:
        step: its step.
        keep: how many checkpoints are to stay, as `save_total_limit` says.
        best: step of the best one so far, which stays.
        folder: the second names of its files.
    """

    step: int
    keep: int | None
    best: int | None
    folder: Path


class Mirror:
    """Keeps a run's folder on another storage up to date, where `output_dir` is a URL. Otherwise does nothing.

    Args:
        output_dir: folder or URL of the run.
        strategy: of the run; its main process uploads.
        on_each_node: each machine writes whole checkpoints of its own.

    Attributes:
        local: the folder on this machine.
        seconds_of_last_upload: of a checkpoint.

    Raises:
        ConfigurationError: the URL cannot be used.
        MissingPackageError: the package for it is not installed.
    """

    def __init__(self, output_dir: str, strategy: Strategy, on_each_node: bool = False) -> None:
        self._output_dir = output_dir
        self._strategy = strategy
        self._on_each_node = on_each_node
        self._lock = threading.Lock()
        self._lock_of_files = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ready: tuple[int, int | None, int | None] | None = None
        self._waiting: list[Upload] = []
        self._failure: CheckpointError | None = None
        self._told_of_skipping = False
        self._own: set[int] = set()
        self._sent: dict[Path, tuple[int, int]] = {}
        self.seconds_of_last_upload = 0.0
        self.local = Path()
        self._storage: Storage | None = None
        self.open(output_dir)

    @property
    def _sends(self) -> bool:
        return self._storage is not None and self._strategy.world.is_main

    def open(self, folder: str) -> str:
        """Has the run go to `folder`: a URL, a folder below the local one of a URL, or any other.

        Returns:
            The folder on this machine.
        """
        url = self._url_of(folder)
        self.local = Path(local_folder(folder))
        if url is None or self._storage is None or self._storage.url != url:
            self._storage = None if url is None else Storage(url)
            self._own, self._sent = set(), {}
        return str(self.local)

    def _url_of(self, folder: str) -> str | None:
        if is_url(folder):
            return folder.rstrip("/")
        root = Path(local_folder(self._output_dir))
        if is_url(self._output_dir) and Path(folder).is_relative_to(root):
            inside = Path(folder).relative_to(root).parts
            return "/".join([self._output_dir.rstrip("/"), *inside])
        return None

    def told(self) -> str:
        """Where the run is saved, for people."""
        return str(self.local) if self._storage is None else f"{self._storage.url}, by way of {self.local}"

    def fetch(self, wanted: Any) -> Any:
        """`resume_from_checkpoint`, with a checkpoint on another storage brought to this machine.

        Raises:
            CheckpointError: it is not there, is broken, or cannot be read.
        """
        url = str(self.local) if self._storage is None else self._storage.url
        return fetch_for_resume(wanted, url, self._strategy)

    def begin(self, step: int) -> None:
        """A run starts at `step`: the checkpoints up to there are its own. Call it on every process.

        Raises:
            CheckpointError: the storage cannot be written to.
            ConfigurationError: there are several machines, and each would write a part of the checkpoints.
        """
        storage = self._storage
        if storage is None:
            return
        machines = sum(self._strategy.gather_objects(self._strategy.world.is_local_main))
        if machines > 1 and not self._on_each_node:
            raise ConfigurationError(
                f"{storage.url} with {machines} machines needs `save_on_each_node=True`: what is uploaded is first "
                "written to a disk of one machine, and has to be whole there."
            )

        def prepare() -> set[int]:
            for prefix in (UPLOAD_PREFIX, DOWNLOAD_PREFIX):
                for leftover in self.local.glob(f"{prefix}*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            storage.probe()
            storage.remove_leftovers()
            return {found for found in storage.steps() if found <= step} if step else set()

        self._own = from_main(self._strategy, prepare)

    def ready(self, step: int, keep: int | None, best: int | None) -> None:
        """The checkpoint of that step is visible: it is sent from the next `advance` on."""
        if self._sends:
            self._ready = (step, keep, best)

    def advance(self) -> None:
        """Begins to send the checkpoint that is ready; the training thread calls it between steps."""
        ready, self._ready = self._ready, None
        if ready is not None:
            self._attempt(lambda: self._enqueue(*ready))

    def _enqueue(self, step: int, keep: int | None, best: int | None) -> None:
        checkpoint = self.local / checkpoint_name(step)
        folder = Path(tempfile.mkdtemp(prefix=f"{UPLOAD_PREFIX}{checkpoint.name}-", dir=self.local))
        lay_out({path.relative_to(checkpoint): path for path in files_below(checkpoint)}, folder, link)
        with self._lock:
            waited = self._waiting
            self._waiting = [other for other in waited if other.step == best != step]
            skipped = [other for other in waited if other not in self._waiting]
            self._waiting.append(Upload(step, keep, best, folder))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="upload")
                self._thread.start()
        for other in skipped:
            self._skip(other)

    def _skip(self, upload: Upload) -> None:
        shutil.rmtree(upload.folder, ignore_errors=True)
        if not self._told_of_skipping:
            self._told_of_skipping = True
            logger.warning(
                "Checkpoints are made faster than they can be uploaded: that of step %d is left out, and so may others "
                "be. The newest always follows.",
                upload.step,
            )

    def _work(self) -> None:
        while (upload := self._next()) is not None:
            began = time.perf_counter()
            self._attempt(lambda: self._send(upload))
            self.seconds_of_last_upload = time.perf_counter() - began
            shutil.rmtree(upload.folder, ignore_errors=True)

    def _next(self) -> Upload | None:
        with self._lock:
            if self._waiting:
                return self._waiting.pop(0)
            self._thread = None
            return None

    def _send(self, upload: Upload) -> None:
        assert self._storage is not None
        self._storage.upload(upload.folder, upload.step)
        self._own.add(upload.step)
        for step in expendable(sorted(self._own), upload.keep, {upload.best}):
            self._remove(step)
        self._send_files()

    def _remove(self, step: int) -> None:
        assert self._storage is not None
        self._storage.remove(step)
        self._own.discard(step)

    def keep_only(self, path: str) -> None:
        """Removes every checkpoint of this run but this one, there."""
        if self._sends:
            self.finish()
            for step in sorted(self._own - {step_of(Path(path).name)}):
                self._attempt(lambda step=step: self._remove(step))  # type: ignore[misc]

    def send_files(self, url: str | None = None) -> None:
        """Sends what the run's folder has besides checkpoints, as far as it is new.

        Args:
            url: another folder whose local files are sent; the run's if None.
        """
        if url is not None and is_url(url) and self._strategy.world.is_main and not self._holds(url):
            self._attempt(lambda: send_folder(url))
        elif self._sends:
            self._attempt(self._send_files)

    def _holds(self, url: str) -> bool:
        return self._storage is not None and f"{url.rstrip('/')}/".startswith(f"{self._storage.url}/")

    def _send_files(self) -> None:
        assert self._storage is not None
        with self._lock_of_files:
            for path in run_files(self.local):
                status = path.stat()
                stamp = (status.st_mtime_ns, status.st_size)
                if self._sent.get(path) != stamp:
                    self._storage.put(path, path.relative_to(self.local).as_posix())
                    self._sent[path] = stamp

    def finish(self) -> None:
        """Waits until everything has arrived, or has failed to."""
        self.advance()
        thread = self._thread
        if thread is not None:
            thread.join()

    def failure(self) -> CheckpointError | None:
        """What went wrong since the last call."""
        failure, self._failure = self._failure, None
        return failure

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # whatever it is, the training thread has to hear of it
            reason = (str(error) or type(error).__name__).rstrip(".")
            self._failure = CheckpointError(f"{reason}. What was to be uploaded is in {self.local}.")
            self._failure.__cause__ = error


def run_files(folder: Path) -> list[Path]:
    """The files of a run's folder that belong to no checkpoint and are not hidden."""
    if not folder.is_dir():
        return []
    shown = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found: list[Path] = []
    for path in shown:
        if path.is_file():
            found.append(path)
        elif step_of(path.name) is None:
            found += files_below(path)
    return found


def send_folder(url: str) -> None:
    """Sends the files of a URL's folder on this machine there.

    Raises:
        CheckpointError: they cannot be written.
    """
    storage, folder = Storage(url), Path(local_folder(url))
    for path in run_files(folder):
        storage.put(path, path.relative_to(folder).as_posix())
