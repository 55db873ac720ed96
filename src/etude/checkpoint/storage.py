"""An output folder on another storage (`s3://bucket/run`): what is done there, through fsspec.

A checkpoint is there when its manifest is: it is the last file that is uploaded, and the first that is removed. A file
that only etude writes is the first and the last, so that what was left half done can be told from somebody else's.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, TypeVar

from etude.checkpoint.files import ETUDE_STATE, FOLDER_PREFIX, MANIFEST, TRAINING_ARGS_JSON, step_of
from etude.core.trees import files_below
from etude.errors import CheckpointError, ConfigurationError
from etude.optional import require

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LOCAL_DIR = "ETUDE_LOCAL_DIR"
DELAYS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)  # seconds between attempts
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
_DRAWING = {
    *("fsspec", "s3fs", "aiobotocore", "botocore", "aiohttp", "urllib3", "requests"),
    *("gcsfs", "google", "adlfs", "azure"),
}
_NOT_TRIED_AGAIN = (PermissionError, FileNotFoundError, NotImplementedError, TypeError)
_PROBE = ".etude-probe"
_OURS = (ETUDE_STATE, TRAINING_ARGS_JSON)


def is_url(folder: Any) -> bool:
    """Whether an output folder is on another storage."""
    return isinstance(folder, str) and _URL.match(folder) is not None


def local_folder(folder: str) -> str:
    """The folder on this machine that a run writes to: `folder` itself, or for a URL one below `$ETUDE_LOCAL_DIR`.

    That is `~/.cache/etude/runs` if not set; `s3://bucket/run` becomes `s3/bucket/run` there.
    """
    if not is_url(folder):
        return folder
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    base = os.environ.get(LOCAL_DIR) or os.path.join(cache, "etude", "runs")
    protocol, _, path = folder.partition("://")
    return os.path.join(os.path.abspath(base), protocol, *PurePosixPath(path.lstrip("/")).parts)


class Storage:
    """A folder on another storage. What fails is tried again for a while.

    Args:
        url: where it is, as fsspec understands it. Credentials, endpoints and other options come from the environment
            and fsspec's configuration.

    Raises:
        ConfigurationError: there is no such kind of storage.
        MissingPackageError: its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._files, self._root = _file_system(self.url)

    def names(self, inside: str = "") -> dict[str, int]:
        """The files below a folder inside, by their path in it, with their sizes.

        Raises:
            CheckpointError: the storage cannot be read.
        """
        folder = self._path(inside)

        def find() -> dict[str, Any]:
            self._files.invalidate_cache()
            try:
                return dict(self._files.find(folder, detail=True))
            except FileNotFoundError:
                return {}

        found = self._persistently(find, "read")
        prefix = str(self._files._strip_protocol(folder)).rstrip("/") + "/"
        return {path[len(prefix) :]: info["size"] for path, info in found.items() if path.startswith(prefix)}

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there as a whole, in order."""
        return sorted(step for step, names in self._checkpoints().items() if MANIFEST in names)

    def _checkpoints(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name in self.names():
            folder, _, inner = name.partition("/")
            step = step_of(folder)
            if step is not None:
                found.setdefault(step, []).append(inner)
        return found

    def remove_leftovers(self) -> None:
        """Removes what uploads and removals that were killed have left behind.

        Raises:
            CheckpointError: it cannot be removed.
        """
        for step, names in self._checkpoints().items():
            if MANIFEST not in names and any(name in _OURS for name in names):
                self.remove(step)

    def upload(self, folder: Path, step: int) -> None:
        """Makes `folder` the checkpoint of that step.

        Raises:
            CheckpointError: it cannot be written; there is no checkpoint of that step then.
        """
        inside = checkpoint_name(step)
        sent = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
        manifest = sent.pop(MANIFEST)
        self._remove_files(inside, [name for name in self.names(inside) if name not in sent])
        for name in sorted(sent, key=_from_first_to_last):
            self.put(sent[name], f"{inside}/{name}")
        arrived = self.names(inside)
        for name, path in sent.items():
            if arrived.get(name) != path.stat().st_size:
                raise CheckpointError(f"{self.url}/{inside}/{name} has not arrived as it was sent.")
        self.put(manifest, f"{inside}/{MANIFEST}")

    def put(self, path: Path, name: str) -> None:
        """Writes a file, in place of an older one.

        Raises:
            CheckpointError: it cannot be written.
        """
        self._persistently(lambda: self._files.put_file(str(path), self._path(name)), "written to")

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            CheckpointError: it cannot be read.
        """
        return bytes(self._persistently(lambda: self._files.cat_file(self._path(name)), "read"))

    def get(self, name: str, path: Path) -> None:
        """Writes a file of the storage to `path`.

        Raises:
            CheckpointError: it cannot be read.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._persistently(lambda: self._files.get_file(self._path(name), str(path)), "read")

    def remove(self, step: int) -> None:
        """Removes a checkpoint, so that half of one is never taken for one.

        Raises:
            CheckpointError: it cannot be removed.
        """
        inside = checkpoint_name(step)
        self._remove_files(inside, list(self.names(inside)))
        with suppress(OSError):  # where there are folders, an empty one is left
            self._files.rm(self._path(inside), recursive=True)

    def probe(self) -> None:
        """Makes sure that files can be written and removed.

        Raises:
            CheckpointError: they cannot.
        """
        self._persistently(
            lambda: self._files.pipe_file(self._path(_PROBE), b"etude"), "written to", DELAYS[:2]
        )
        self._remove_files("", [_PROBE])
        _draw_apart()

    def _remove_files(self, inside: str, names: list[str]) -> None:
        for name in sorted(names, key=_from_first_to_last, reverse=True):
            path = self._path(f"{inside}/{name}" if inside else name)
            self._persistently(lambda path=path: self._removed(path), "written to")  # type: ignore[misc]

    def _removed(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _persistently(
        self, action: Callable[[], Result], what: str, delays: tuple[float, ...] | None = None
    ) -> Result:
        """The result of `action`, tried again after each delay as long as it fails in a way that may pass."""
        for delay in (*(DELAYS if delays is None else delays), None):
            try:
                return action()
            except Exception as error:  # each storage has exceptions of its own
                if delay is None or isinstance(error, _NOT_TRIED_AGAIN):
                    reason = str(error) or type(error).__name__
                    raise CheckpointError(f"{self.url} cannot be {what}: {reason}.") from error
                logger.warning("%s cannot be %s (%s); trying again in %g s.", self.url, what, error, delay)
                time.sleep(delay)
        raise AssertionError("the last attempt returns or raises")


def _from_first_to_last(name: str) -> int:
    """Order in which a checkpoint's files are uploaded; they are removed the other way round."""
    return 2 if name == MANIFEST else 0 if name in _OURS else 1


def checkpoint_name(step: int) -> str:
    """Name of the folder of that step's checkpoint."""
    return f"{FOLDER_PREFIX}-{step}"


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of fsspec for a URL, and the path in it."""
    fsspec = require("fsspec", f"The folder {url}")
    protocol = url.partition("://")[0].lower()
    if "::" in url or ".." in url.split("/"):
        raise ConfigurationError(f"{url} cannot be an output folder: it must not contain `::` or `..`.")
    if protocol in _PACKAGES:
        require(_PACKAGES[protocol], f"The folder {url}")
    options = {"auto_mkdir": True} if protocol in ("file", "local") else {}
    try:
        file_system, root = fsspec.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"{url} cannot be an output folder: {error}.") from error
    _draw_apart()
    return file_system, str(root).rstrip("/")


def _draw_apart() -> None:
    """Gives the packages of storages a generator of random numbers of their own.

    They draw pauses and the order of connections from Python's, from any thread and at any time. What a run draws for
    its data must not depend on that.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _DRAWING and getattr(module, "random", None) is random:
            module.random = _another_random()  # type: ignore[attr-defined]


@cache
def _another_random() -> ModuleType:
    """A second instance of Python's module `random`."""
    spec = importlib.util.find_spec("random")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
