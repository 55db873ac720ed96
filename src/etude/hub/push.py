"""What of an output folder is pushed, and how it stays as it is while it is on its way."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from etude.checkpoint import files
from etude.core.trees import files_below, lay_out, link
from etude.hub.client import client

SNAPSHOT_PREFIX = ".push-"
# Checkpoints, what is being written, and what the user marks as private by an underscore.
LEFT_OUT = ("_*", f"{files.FOLDER_PREFIX}-*", f"{files.STAGING_PREFIX}*", f"{SNAPSHOT_PREFIX}*")
LARGEST_COPY = 64 << 20  # bytes
# What a checkpoint has besides the model: the state to go on from, and a card that must not replace that of the run.
NOT_THE_MODEL = (
    files.OPTIMIZER,
    files.SCHEDULER,
    files.SCALER,
    files.TRAINER_STATE,
    files.ETUDE_STATE,
    files.MANIFEST,
    "optimizer-*-of-*.pt",
    "rng_state*",
    "optimizer.bin",  # and what shards of it are called
    "optimizer_[0-9]*",
    "pytorch_model_fsdp*",
    "global_step*",
    "latest",
    "zero_to_fp32.py",
    "README.md",
)


@dataclass(frozen=True)
class Destination:
    """Where a push goes.

    Attributes:
        repo_id: full name of the repository.
        token: an access token; the one that is logged in if None.
        revision: a branch; the main one if None.
    """

    repo_id: str
    token: str | None
    revision: str | None

    def upload(self, folder: Path, message: str, path_in_repo: str | None = None) -> Any:
        """Makes one commit of what is in `folder`."""
        return client().upload_folder(
            repo_id=self.repo_id,
            folder_path=str(folder),
            path_in_repo=path_in_repo,
            commit_message=message,
            token=self.token,
            revision=self.revision,
            ignore_patterns=list(LEFT_OUT) if path_in_repo is None else None,
        )


def checkpoint_push(
    to: Destination, output_dir: Path, checkpoint: Path, message: str, path_in_repo: str | None
) -> Callable[[], Any]:
    """Takes a snapshot of a run, and returns the push of it.

    Args:
        to: where to.
        output_dir: the run's folder; what lies in it is pushed too, without checkpoints.
        checkpoint: the model to push, which is in no danger of being rotated away once this function returns.
        message: of the commit.
        path_in_repo: folder of the repository for the whole checkpoint, in a second commit; None: only the model.
    """
    snapshot = Path(tempfile.mkdtemp(prefix=f"{SNAPSHOT_PREFIX}{checkpoint.name}-", dir=output_dir))
    whole = {path.relative_to(checkpoint): path for path in files_below(checkpoint)}
    model = {inside: path for inside, path in whole.items() if not matches(inside.parts[0], NOT_THE_MODEL)}
    others = {path.relative_to(output_dir): path for path in pushed_files(output_dir)}
    lay_out(model, snapshot / "model", link)
    lay_out({i: path for i, path in others.items() if i not in model}, snapshot / "model", copy)
    if path_in_repo is not None:
        lay_out(whole, snapshot / "checkpoint", link)

    def push() -> Any:
        try:
            done = to.upload(snapshot / "model", message)
            if path_in_repo is not None:
                to.upload(snapshot / "checkpoint", f"{message}, checkpoint", path_in_repo)
            return done
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)

    return push


def remove_snapshots(output_dir: Path) -> None:
    """Removes what pushes that were killed have left behind."""
    for folder in output_dir.glob(f"{SNAPSHOT_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def pushed_files(output_dir: Path) -> Iterator[Path]:
    """The files of an output folder that are pushed besides the model."""
    for path in sorted(output_dir.iterdir()):
        if not matches(path.name, LEFT_OUT):
            yield from files_below(path) if path.is_dir() else [path]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is like one of the patterns."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def copy(source: Path, target: Path) -> None:
    """What a small file, such as a log that is written to, holds now; large ones are linked."""
    if source.stat().st_size > LARGEST_COPY:
        link(source, target)
    else:
        shutil.copyfile(source, target)
