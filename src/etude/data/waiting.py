"""Waiting for data: how much of a training it takes, and how many loading processes spare it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import cache

logger = logging.getLogger(__name__)

AUTOMATIC = "auto"
STRETCH = 100  # updates that are looked at together
TOO_MUCH = 0.1
WORTH_TELLING = 1.0  # seconds of waiting in a stretch; less is not worth anybody's attention
MOST_PROCESSES = 8  # more of them rarely load faster, and each takes memory


class DataWait:
    """Measures the time between asking for the data of an update and having it.

    Args:
        clock: gives seconds; read twice an update.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._asked = 0.0
        self._first_asked: float | None = None
        self._had = 0.0
        self._waited = 0.0
        self._updates = 0
        self._stretch_began = 0.0
        self._stretch_waited = 0.0
        self._is_told = False

    @property
    def share(self) -> float:
        """Of all the time so far, the part spent waiting: from 0 to 1."""
        passed = 0.0 if self._first_asked is None else self._had - self._first_asked
        return self._waited / passed if passed > 0 else 0.0

    def begin(self) -> None:
        """The data of an update is asked for."""
        self._asked = self._clock()
        if self._first_asked is None:
            self._first_asked = self._asked

    def end(self) -> float | None:
        """It is there. Returns the share of waiting in the last updates, once, when it is too much."""
        self._had = self._clock()
        waited = self._had - self._asked
        self._waited += waited
        self._stretch_waited += waited
        self._updates += 1
        if self._updates % STRETCH != 1:
            return None
        told = self._verdict() if self._updates > 1 else None
        self._stretch_began, self._stretch_waited = self._had, 0.0  # the first wait is that of the start
        return told

    def _verdict(self) -> float | None:
        share = self._stretch_waited / max(self._had - self._stretch_began, 1e-9)
        if self._is_told or share <= TOO_MUCH or self._stretch_waited < WORTH_TELLING:
            return None
        self._is_told = True
        return share


def advice(share: float, num_workers: int) -> str:
    """What to say of a training that waits, and the way out."""
    begin = f"{share:.0%} of the last {STRETCH} updates' time went by waiting for data: "
    if num_workers == 0:
        return (
            begin
            + 'let processes load it (`dataloader_num_workers="auto"`), or prepare the samples beforehand.'
        )
    return (
        f"{begin}{num_workers} processes load it (`dataloader_num_workers`); more of them, or samples prepared "
        "beforehand, would help."
    )


def num_loading_processes(asked: int | str, processes: int) -> int:
    """The number of loading processes of each training process.

    Args:
        asked: the number, or "auto": the cores that are left when each training process has one, shared out; at least
            1, so that random transformations draw the same on every machine, and at most 8.
        processes: training processes of the run; those of this machine, where the launcher says how many.
    """
    if isinstance(asked, int):
        return asked
    return _automatic(int(os.environ.get("LOCAL_WORLD_SIZE", processes)))


@cache  # said once
def _automatic(processes: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = max(1, min(MOST_PROCESSES, cores // max(1, processes) - 1))
    logger.warning(
        'dataloader_num_workers="auto": %d for each training process (%d on %d cores).',
        chosen,
        processes,
        cores,
    )
    return chosen
