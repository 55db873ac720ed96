"""The files of a folder, and second names for them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder and its subfolders."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def lay_out(paths: Mapping[Path, Path], folder: Path, how: Callable[[Path, Path], Any]) -> None:
    """Puts files into `folder` under their names there."""
    for inside, path in paths.items():
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # a temporary file of some tracker
            how(path, folder / inside)


def link(source: Path, target: Path) -> None:
    """A second name for a file that will not change; a copy where the disk has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
