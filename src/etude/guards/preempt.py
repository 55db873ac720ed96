"""Being asked to stop, or to save, from outside of the run: by a signal or by the clock.

The loop asks at points where the state of the run is whole: before the first step, after each one, and between the
batches of an evaluation, which it can leave. On several processes all of them get the same answer at the same point.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from etude.errors import Preempted
from etude.guards.agreement import Agreement, Board
from etude.guards.clock import Clock
from etude.guards.signals import StopSignals

# Wishes; of several the largest counts. From `STOP` on they are to stop: the time is up, or `STOP` + a signal's number.
SAVE = 1
STOP = 100
EXIT_TIME_IS_UP = 75  # EX_TEMPFAIL: nothing is wrong, do it again
_END_OF_EVALUATION = 2**62

Batch = TypeVar("Batch")


class EvaluationLeft(BaseException):
    """Leaves an evaluation whose process has been asked to stop."""


class Interruptions:
    """What the loop asks. Enter it for the time of a run; made without arguments, nothing interrupts.

    Args:
        signals: those that ask to stop; None: they do what they do without a training.
        clock: of the run; only that of the main process counts.
        board: opens what the processes share; None for a single process.
        rank: of this process.
        size: number of processes.
        patience: seconds that other processes may take to answer.
    """

    def __init__(
        self,
        signals: StopSignals | None = None,
        clock: Clock | None = None,
        board: Callable[[], Board] | None = None,
        rank: int = 0,
        size: int = 1,
        patience: float = 1800.0,
    ) -> None:
        self.signals = signals
        self.clock = Clock() if clock is None else clock
        self._looks_at_clock = rank == 0 and self.clock.is_used
        self._agreement: Agreement | None = None
        if board is not None and (signals is not None or self.clock.is_used):
            self._agreement = Agreement(board(), rank, size, self._own_wish, patience=patience)
        self._wish = 0  # heard, and not answered yet
        self._phase = 0
        self._may_leave: Callable[[], bool] | None = None

    def __enter__(self) -> Interruptions:
        if self.signals is not None:
            self.signals.__enter__()
        if self._agreement is not None:
            self._agreement.open()
        return self

    def __exit__(self, *failure: Any) -> None:
        if self._agreement is not None:
            self._agreement.close()
        if self.signals is not None:
            self.signals.__exit__(*failure)

    def step(self) -> None:
        """A step is done, but not what is due after it."""
        if self._looks_at_clock:
            self.clock.step()

    def between_steps(self) -> int:
        """The wish to be answered now, on all processes alike: 0 for none, `SAVE`, or to stop from `STOP` on."""
        self._phase += 1
        self._hear(0)
        if self._looks_at_clock:
            self.clock.rest()
        wish = self._wish
        if wish < STOP:
            self._wish = 0
        if wish == SAVE:
            self.clock.saved()
        return wish

    @contextmanager
    def evaluating(self, may_leave: Callable[[], bool]) -> Iterator[None]:
        """An evaluation that can be left, as long as `may_leave` says so, and made again when the run goes on."""
        self._may_leave = may_leave
        try:
            yield
        finally:
            self._may_leave = None

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of an evaluation.

        Raises:
            EvaluationLeft: between two of them, or after the last one, where the run is asked to stop.
        """
        self._phase += 1
        for number, batch in enumerate(batches, start=1):
            self._between_batches(number)
            yield batch
        self._between_batches(_END_OF_EVALUATION)

    def _between_batches(self, number: int) -> None:
        self._hear(number)
        if self._wish >= STOP and self._may_leave is not None and self._may_leave():
            raise EvaluationLeft

    def _hear(self, number: int) -> None:
        if self._wish >= STOP:
            return
        point = (self._phase, number)
        heard = self._own_wish() if self._agreement is None else self._agreement.reached(point)
        self._wish = max(self._wish, heard)

    def _own_wish(self) -> int:
        """What this process wishes for and has not heard yet; also called by the thread that agrees."""
        if self._wish >= STOP:
            return 0
        if self.signals is not None and self.signals.received is not None:
            return STOP + self.signals.received
        if not self._looks_at_clock:
            return 0
        if self.clock.time_is_up():
            return STOP
        return SAVE if self._wish < SAVE and self.clock.save_is_due() else 0


def reason(wish: int) -> str:
    """What has asked for a wish to stop."""
    return "max_time" if wish == STOP else signal.Signals(wish - STOP).name


def leave(wish: int, step: int) -> BaseException:
    """The exception with which the run leaves for a wish to stop."""
    if wish == STOP + signal.SIGINT:
        return KeyboardInterrupt()
    code = EXIT_TIME_IS_UP if wish == STOP else 128 + wish - STOP
    return Preempted(code, f"{reason(wish)} at step {step}")
