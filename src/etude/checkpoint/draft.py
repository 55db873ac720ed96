"""A checkpoint in the making: what is written at once, and what is copied now and written later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from etude.checkpoint.snapshot import HostBuffers, is_copyable
from etude.memory.host import available_bytes

logger = logging.getLogger(__name__)


class Draft:
    """A checkpoint in the making, as one process sees it.

    Args:
        folder: where its files go; not visible as a checkpoint yet.
        buffers: for copies of what is written later; None: everything is written at once.

    Attributes:
        in_the_way: why something that could have been written later was not; None as long as nothing was.
    """

    def __init__(self, folder: Path, buffers: HostBuffers | None) -> None:
        self.folder = folder
        self.in_the_way: str | None = None
        self._buffers = buffers
        self._copies = buffers
        self._jobs: list[Callable[[], Any]] = []

    def save_tensors(self, path: Path, value: Any) -> None:
        """`torch.save` of `value`, as it is now."""
        held = self.copy(path.relative_to(self.folder).as_posix(), value)
        self.later(lambda: write_tensors(path, held))

    def copy(self, name: str, value: Any) -> Any:
        """`value` as it is now, to be used by the job that is handed to `later` next.

        Where no copy can be made, that and all further jobs are done at once.
        """
        if self._copies is not None:
            self.in_the_way = self._obstacle(self._copies, name, value)
            if self.in_the_way is not None:
                self._copies = None
        return value if self._copies is None else self._copies.copy(name, value)

    def later(self, job: Callable[[], Any]) -> None:
        """Does `job` when the training goes on, or at once where nothing is put off."""
        if self._copies is None:
            job()
        else:
            self._jobs.append(job)

    def settle(self) -> None:
        """From now on the training may change what was copied."""
        if self._buffers is not None:
            self._buffers.mark()

    def finish(self) -> None:
        """Does what was put off, once all copies are made."""
        if self._buffers is not None:
            self._buffers.wait()
        for job in self._jobs:
            job()

    @staticmethod
    def _obstacle(buffers: HostBuffers, name: str, value: Any) -> str | None:
        if not is_copyable(value):
            return f"{name} holds more than plain tensors and numbers"
        free, needed = available_bytes(), buffers.missing_bytes(name, value)
        if not needed or free is None or needed < 0.8 * free:
            return None
        return f"a copy of {name} ({needed / 1e9:.1f} GB) does not fit into the {free / 1e9:.1f} GB that are left"


def write_tensors(path: Path, value: Any) -> None:
    """`torch.save`, through a file of Python's: an error then says what the disk has said."""
    with path.open("wb") as file:
        torch.save(value, file)
