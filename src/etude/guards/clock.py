"""The wall clock of a run: when a checkpoint is due by it, and when its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable

RESERVED_SAVES = 1.5


class Clock:
    """Starts when it is made.

    Args:
        save_every: seconds between two checkpoints; None: they do not depend on the clock.
        max_time: seconds that the run may take; None: any.
        saving_takes: how many seconds a checkpoint takes, as far as that is known.
        now: the seconds of a clock that never goes back.
    """

    def __init__(
        self,
        save_every: float | None = None,
        max_time: float | None = None,
        saving_takes: Callable[[], float] = lambda: 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._save_every = save_every
        self._max_time = max_time
        self._saving_takes = saving_takes
        self._now = now
        self._began = self._saved_at = self._rested_at = now()
        self._step_takes: float | None = None

    @property
    def is_used(self) -> bool:
        """Whether anything depends on the clock."""
        return self._save_every is not None or self._max_time is not None

    def step(self) -> None:
        """A step is done."""
        self._step_takes = self._now() - self._rested_at

    def rest(self) -> None:
        """What was due after a step is done too; the next one begins."""
        self._rested_at = self._now()

    def saved(self) -> None:
        """A checkpoint was written, or its time let pass."""
        self._saved_at = self._now()

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is older than wanted."""
        return self._save_every is not None and self._now() - self._saved_at >= self._save_every

    def time_is_up(self) -> bool:
        """Whether one more step would leave too little time for the last checkpoint. One step is always done."""
        if self._max_time is None or self._step_takes is None:
            return False
        needed = RESERVED_SAVES * self._saving_takes() + self._step_takes
        return self._now() - self._began + needed > self._max_time
