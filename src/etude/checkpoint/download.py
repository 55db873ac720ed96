"""Going on from a checkpoint on another storage: it is brought to this machine, where it is one like any other."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from etude.checkpoint.files import MANIFEST, TRAINER_STATE
from etude.checkpoint.manifest import Manifest, matches
from etude.checkpoint.storage import Storage, checkpoint_name, is_url, local_folder
from etude.checkpoint.store import checkpoint_steps, commit
from etude.core.trees import files_below, link
from etude.errors import CheckpointError
from etude.strategies.base import Strategy

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

DOWNLOAD_PREFIX = ".download-"


def fetch_for_resume(wanted: Any, output_dir: str, strategy: Strategy) -> Any:
    """What `train(resume_from_checkpoint=wanted)` means on this machine. Call it on every process.

    Args:
        wanted: the URL of a checkpoint; True or "auto", which mean the newest below `output_dir` where that is a URL;
            anything else is for others to understand.
        output_dir: folder of the run.
        strategy: of the run.

    Returns:
        Path of the checkpoint's copy; None for "auto" where there is none; `wanted` where no URL is meant.

    Raises:
        CheckpointError: it is not there, is broken, or cannot be read.
    """
    if is_url(wanted):
        url, _, name = wanted.rstrip("/").rpartition("/")
        return _Fetch(Storage(url), strategy).given(name)
    if is_url(output_dir) and (wanted is True or wanted == "auto"):
        return _Fetch(Storage(output_dir), strategy).newest(or_none=wanted == "auto")
    return wanted


class _Fetch:
    """Brings checkpoints of a run's folder to its machines; the first process of each does."""

    def __init__(self, storage: Storage, strategy: Strategy) -> None:
        self._storage = storage
        self._strategy = strategy
        self._folder = Path(local_folder(storage.url))

    def given(self, name: str) -> str:
        self._require(self._problem(name))
        self._bring_best(name, from_main(self._strategy, self._storage.steps))
        return str(self._folder / name)

    def newest(self, or_none: bool) -> str | None:
        steps = from_main(self._strategy, self._storage.steps)
        for step in reversed(steps):
            name = checkpoint_name(step)
            problem = self._problem(name)
            if problem is None:
                self._bring_best(name, steps)
                self._tell_what_never_arrived(step, steps)
                return str(self._folder / name)
            self._tell(f"{problem} It is passed over.")
        if or_none and not steps:
            return None
        self._require(
            f"No valid checkpoint found in output directory ({self._storage.url}): "
            + (
                "all that are there are broken."
                if steps
                else "leave out resume_from_checkpoint to start afresh."
            )
        )
        return None

    def _bring_best(self, name: str, steps: list[int]) -> None:
        """The best checkpoint so far, which the run may load at its end, comes along."""
        state = json.loads((self._folder / name / TRAINER_STATE).read_text(encoding="utf-8"))
        best = state.get("best_global_step")
        if best in steps and checkpoint_name(best) != name:
            problem = self._problem(checkpoint_name(best))
            if problem is not None:
                self._tell(f"{problem} It was the best so far.")

    def _tell_what_never_arrived(self, step: int, steps: list[int]) -> None:
        lost = [own for own in checkpoint_steps(self._folder) if own > step and own not in steps]
        if lost:
            path = self._folder / checkpoint_name(lost[-1])
            self._tell(
                f"{path} is newer than what {self._storage.url} has, but was never uploaded. To go on from it, give "
                "its path as resume_from_checkpoint."
            )

    def _problem(self, name: str) -> str | None:
        """What is wrong with bringing a checkpoint here, on any machine; None: nothing."""
        problem = None
        if self._strategy.world.is_local_main:
            try:
                download(self._storage, name, self._folder)
            except (CheckpointError, OSError) as error:
                problem = str(error)
        return next(filter(None, self._strategy.gather_objects(problem)), None)

    def _require(self, problem: str | None) -> None:
        if problem is not None:
            raise CheckpointError(problem)

    def _tell(self, text: str) -> None:
        if self._strategy.world.is_main:
            logger.warning("%s", text)


def download(storage: Storage, name: str, folder: Path) -> None:
    """Makes `folder / name` the checkpoint of that name in the storage. Files that are there already are kept.

    Raises:
        CheckpointError: it is not in the storage, or broken there.
    """
    names = storage.names(name)
    if MANIFEST not in names and TRAINER_STATE not in names:
        raise CheckpointError(
            f"Can't find a valid checkpoint at {storage.url}/{name}: it is not there as a whole."
        )
    manifest = storage.read(f"{name}/{MANIFEST}") if MANIFEST in names else None
    target, staging = folder / name, folder / f"{DOWNLOAD_PREFIX}{name}"
    if manifest is not None and _is_here(target, manifest):
        return
    staging.mkdir(parents=True, exist_ok=True)
    for path in files_below(staging):  # of another download, that was killed
        if path.relative_to(staging).as_posix() not in names:
            path.unlink()
    if manifest is not None:
        (staging / MANIFEST).write_bytes(manifest)
    try:
        _fill(storage, name, staging, target, sorted(names.keys() - {MANIFEST}))
    except CheckpointError as error:
        shutil.rmtree(staging)
        raise CheckpointError(str(error).replace(str(staging), f"{storage.url}/{name}")) from error
    commit(staging, target)


def _fill(storage: Storage, name: str, staging: Path, target: Path, names: list[str]) -> None:
    manifest = Manifest.load(staging) if (staging / MANIFEST).is_file() else None
    for file in names:
        expected = None if manifest is None else manifest.files.get(file)
        if _is_like(staging / file, expected):
            continue
        (staging / file).unlink(missing_ok=True)
        if _is_like(target / file, expected):
            (staging / file).parent.mkdir(parents=True, exist_ok=True)
            link(target / file, staging / file)
        else:
            storage.get(f"{name}/{file}", staging / file)
    if manifest is not None:
        manifest.verify(staging)


def _is_here(target: Path, manifest: bytes) -> bool:
    """Whether a checkpoint with this manifest is on this machine and whole."""
    path = target / MANIFEST
    if not path.is_file() or path.read_bytes() != manifest:
        return False
    try:
        known = Manifest.load(target)
        assert known is not None
        known.verify(target)
    except CheckpointError:
        return False
    return True


def _is_like(path: Path, expected: dict[str, Any] | None) -> bool:
    return expected is not None and matches(path, expected)


def from_main(strategy: Strategy, function: Callable[[], Result]) -> Result:
    """What `function` returns on the main process, on all; or its error.

    Raises:
        CheckpointError: it raised one.
    """
    result: Result | None = None
    problem = None
    if strategy.world.is_main:
        try:
            result = function()
        except CheckpointError as error:
            problem = str(error)
    result, problem = strategy.from_main((result, problem))
    if problem is not None:
        raise CheckpointError(problem)
    return result
