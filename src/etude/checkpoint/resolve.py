"""Which checkpoint a run goes on from: only one that is whole."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from etude.checkpoint import files
from etude.checkpoint.verify import is_foreign, verify, verify_weights
from etude.core.state import TrainerState
from etude.errors import CheckpointError
from etude.strategies.base import Strategy

logger = logging.getLogger(__name__)


class Resolver:
    """Finds checkpoints that are whole, for all processes of a run together.

    Args:
        strategy: of the run.
        looks: whether this process reads the files to check them. One does, or the first of each machine where each has
            its own disk.
    """

    def __init__(self, strategy: Strategy, looks: bool) -> None:
        self._strategy = strategy
        self._looks = looks

    def resolve(self, wanted: str | os.PathLike[str] | bool | None, output_dir: str) -> str | None:
        """The checkpoint folder that `train(resume_from_checkpoint=...)` means. Call it on every process.

        Args:
            wanted: a path; True for the newest in `output_dir` that is whole; "auto" for the same, or a start from the
                beginning where there is no checkpoint at all; None or False for none.

        Raises:
            CheckpointError: it is not there, or it is broken.
        """
        if wanted is None or wanted is False:
            return None
        if wanted is True or wanted == "auto":
            return self._newest(output_dir, or_none=wanted == "auto")
        folder = Path(wanted)
        self._require(partial(_verify_given, folder))
        return str(folder)

    def forget_broken_best(self, state: TrainerState, checkpoint: str) -> None:
        """Takes the best checkpoint out of the state of `checkpoint`, and says so, if it cannot be loaded any more."""
        best = state.best_model_checkpoint = _beside(checkpoint, state.best_model_checkpoint)
        if best is None or os.path.realpath(best) == os.path.realpath(checkpoint):
            return
        problem = self._problem(partial(_verify_best, Path(best)))
        if problem is not None:
            self._tell(f"The best model so far is lost: {problem}")
            state.best_model_checkpoint = state.best_global_step = None

    def require_weights(self, folder: str) -> None:
        """Makes sure that the weights of a checkpoint are whole. Call it on every process.

        Raises:
            CheckpointError: they are not; names the file.
        """
        self._require(partial(_verify_best, Path(folder)))

    def _newest(self, output_dir: str, or_none: bool) -> str | None:
        broken = []
        for folder, foreign in self._strategy.from_main(_numbered_folders(Path(output_dir))):
            problem = f"{folder} is no checkpoint." if foreign else self._problem(partial(verify, folder))
            if problem is None:
                return str(folder)
            self._tell(f"{problem} It is passed over.")
            broken += [] if foreign else [folder.name]
        if broken:
            raise CheckpointError(
                f"No valid checkpoint found in output directory ({output_dir}): {', '.join(broken)} cannot be used. "
                "Put back what is gone, or start from the beginning in another folder."
            )
        if or_none:
            return None
        raise CheckpointError(
            f"No valid checkpoint found in output directory ({output_dir}): leave out resume_from_checkpoint to "
            "start from the beginning."
        )

    def _require(self, check: Callable[[], None]) -> None:
        problem = self._problem(check)
        if problem is not None:
            raise CheckpointError(problem)

    def _problem(self, check: Callable[[], None]) -> str | None:
        """What a check says on the processes that look at the files, the same on all; None: nothing."""
        problem = None
        if self._looks:
            try:
                check()
            except (CheckpointError, OSError) as error:
                problem = str(error)
        return next(filter(None, self._strategy.gather_objects(problem)), None)

    def _tell(self, text: str) -> None:
        if self._strategy.world.is_main:
            logger.warning("%s", text)


def _numbered_folders(output_dir: Path) -> list[tuple[Path, bool]]:
    """Folders with the name of a checkpoint, the highest number first, and whether they are none for all that."""
    if not output_dir.is_dir():
        return []
    steps = {path: files.step_of(path.name) for path in output_dir.iterdir() if path.is_dir()}
    found = sorted(((step, path) for path, step in steps.items() if step is not None), reverse=True)
    return [(path, is_foreign(path)) for _, path in found]


def _beside(checkpoint: str, best: str | None) -> str | None:
    """Where the best checkpoint is now: beside the one that the run goes on from, if the folder of both was moved."""
    if best is None or files.step_of(Path(best).name) is None:
        return best
    moved = Path(checkpoint).parent / Path(best).name
    return str(moved) if moved.is_dir() else best


def _verify_given(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"Can't find a valid checkpoint at {folder}: there is no such folder.")
    if not any((folder / name).is_file() for name in (files.TRAINER_STATE, files.MANIFEST)):
        raise CheckpointError(
            f"Can't find a valid checkpoint at {folder}: it has no {files.TRAINER_STATE}. To start from its weights, "
            "load them into the model instead."
        )
    verify(folder)


def _verify_best(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is gone.")
    verify_weights(folder)
