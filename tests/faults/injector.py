"""Lets single calls of libc fail, or kills the process there: `shim.c`, built and armed.

The shim has to be loaded before everything else: start Python with the `environment`, then `arm` it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.distributed.launch import child_environment

SOURCE = Path(__file__).with_name("shim.c")
KILL, NOTHING = 0, -1


@dataclass(frozen=True, order=True)
class Call:
    """A call: its name, its path below the folder, and how many calls with both came before it."""

    name: str
    path: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.name} {self.path or '/'} #{self.occurrence}"

    @property
    def of_a_save(self) -> bool:
        """Whether it belongs to writing or removing a checkpoint."""
        return "checkpoint" in self.path or (self.path == "" and self.name in ("open", "fsync"))

    @property
    def of_a_removal(self) -> bool:
        """Whether it takes something away."""
        return "removed" in self.path or self.path.startswith("/checkpoint") or self.name == "remove"

    @property
    def needs_room(self) -> bool:
        """Whether it can fail on a full disk."""
        return self.name in ("write", "truncate", "mkdir", "fsync", "rename") and not self.of_a_removal


def is_possible() -> bool:
    """Whether calls can be intercepted here."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def environment(folder: Path) -> dict[str, str]:
    """The environment of a process whose calls are intercepted; builds the shim in `folder`."""
    shim = folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, SOURCE, "-ldl"], check=True)
    return {**child_environment(), "LD_PRELOAD": str(shim)}


def arm(folder: Path, book: Path, call: Call | None = None, error: int = NOTHING) -> None:
    """From now on calls below `folder` are written down in `book`.

    Args:
        call: the one that fails.
        error: its errno; KILL kills the process instead.
    """
    wanted = "" if call is None else f"{call.name} {call.path}"
    ctypes.CDLL(None).faults_arm(
        os.fsencode(folder),
        os.fsencode(book),
        wanted.encode(),
        ctypes.c_long(0 if call is None else call.occurrence),
        NOTHING if call is None else error,
    )


def read(book: Path) -> tuple[list[Call], bool]:
    """The calls that were made, in order, and whether the wanted one was among them."""
    calls, counts, hit = [], dict[str, int](), False
    for line in book.read_text().splitlines():
        if line == "HIT":
            hit = True
            continue
        name, _, path = line.partition(" ")
        calls.append(Call(name, path, counts.get(line, 0)))
        counts[line] = counts.get(line, 0) + 1
    return calls, hit
