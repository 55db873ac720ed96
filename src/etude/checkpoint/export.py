"""A checkpoint in the layout of another library."""

from __future__ import annotations

import shutil
from pathlib import Path

from etude.checkpoint import files
from etude.checkpoint.sharding import joined, optimizer_files
from etude.checkpoint.store import commit
from etude.checkpoint.verify import verify
from etude.errors import CheckpointError

OWN_FILES = (files.MANIFEST, files.ETUDE_STATE)


def export(folder: Path, target: Path) -> None:
    """Writes a checkpoint as transformers' Trainer does: one `optimizer.pt`, and no files of etude's own.

    Raises:
        CheckpointError: it is broken, or there is something at `target`.
    """
    verify(folder)
    if target.exists():
        raise CheckpointError(f"{target} is there already: nothing is overwritten.")
    parts = optimizer_files(folder)
    own = {*OWN_FILES, *(path.name for path in folder.glob("data_state*.pt"))}
    left_out = own | {path.name for path in parts if path.name != files.OPTIMIZER}
    staging = target.with_name(f"{files.STAGING_PREFIX}{target.name}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        shutil.copytree(folder, staging, ignore=lambda where, names: left_out & set(names))
        if len(parts) > 1:
            _join(parts, staging / files.OPTIMIZER)
        commit(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _join(parts: list[Path], target: Path) -> None:
    import torch

    from etude.checkpoint.tensors import load_tensors

    torch.save(joined([load_tensors(path) for path in parts]), target)
