"""A checkpoint in the making: what is written at once, and what is copied now and written later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from etude.checkpoint.snapshot import HostBuffers
from etude.memory.host import available_bytes

logger = logging.getLogger(__name__)


class Draft:
    """A checkpoint in the making, as one process sees it.

    Args:
        folder: where its files go; not visible as a checkpoint yet.
        buffers: for copies of what is written later; None: everything is written at once.
    """

    def __init__(self, folder: Path, buffers: HostBuffers | None) -> None:
        self.folder = folder
        self._buffers = buffers
        self._jobs: list[Callable[[], Any]] = []

    def save_tensors(self, path: Path, value: Any) -> None:
        """`torch.save` of `value`, as it is now."""
        held = self.copy(path.name, value)
        self.later(lambda: torch.save(held, path))

    def copy(self, name: str, value: Any) -> Any:
        """`value` as it is now, to be used by a job."""
        if self._buffers is not None and not self._fits(value):
            self._buffers = None
        return value if self._buffers is None else self._buffers.copy(name, value)

    def later(self, job: Callable[[], Any]) -> None:
        """Does `job` when the training goes on, or at once where nothing is put off."""
        if self._buffers is None:
            job()
        else:
            self._jobs.append(job)

    def settle(self) -> None:
        """Waits until all copies are made."""
        if self._buffers is not None:
            self._buffers.wait()

    def finish(self) -> None:
        """Does what was put off."""
        for job in self._jobs:
            job()

    def _fits(self, value: Any) -> bool:
        assert self._buffers is not None
        free, needed = available_bytes(), self._buffers.missing_bytes(value)
        if free is None or needed < 0.8 * free:
            return True
        logger.warning(
            "Checkpoints are written while the training waits: a copy of the state (%.1f GB) does not fit into the "
            "%.1f GB of memory that are left.", needed / 1e9, free / 1e9,
        )  # fmt: skip
        return False
