"""Reading past what is done, where the data cannot be entered in the middle."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

logger = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds until the first line
PAUSE = 15.0  # seconds between two lines


class Replay:
    """Reads past items and tells how long that will take, if it takes a while.

    Args:
        total: how many there are to read past.
        what: their name.
        told: whether this process is the one that says it.
    """

    def __init__(self, total: int, what: str, told: bool = True) -> None:
        self._total = total
        self._what = what
        self._done = 0
        self._began = time.perf_counter()
        self._next_line = self._began + PATIENCE if told else float("inf")

    def read_past(self, items: Iterator[Any], count: int) -> int:
        """Draws `count` items and forgets them; returns how many there were."""
        found = sum(1 for _ in islice(items, count))
        self._done += found
        now = time.perf_counter()
        if now >= self._next_line and 0 < self._done < self._total:
            left = (now - self._began) * (self._total - self._done) / self._done
            logger.warning(
                "Resuming: %d of %d %s read past, about %.0f s left.",
                self._done,
                self._total,
                self._what,
                left,
            )
            self._next_line = now + PAUSE
        return found
