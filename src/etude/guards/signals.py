"""Signals that ask a process to stop: noted while a training runs, answered between two of its steps."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")
# torchrun passes a Ctrl-C on to its processes, which have had it from the terminal already.
ECHO_SECONDS = 1.0


class StopSignals:
    """Notes SIGTERM, SIGINT and SIGUSR1 while it is entered; the second SIGINT stops at once.

    Handlers can only be set in the main thread: elsewhere nothing is set. A signal that the process ignores, or that
    something other than Python handles, is left alone.

    Attributes:
        received: the signal that was noted first, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._interrupted_at: float | None = None
        self._process = os.getpid()

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGUSR1
            before = None if number is None else signal.getsignal(number)
            if number is not None and before not in (None, signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """Puts the handlers back. They get what was not answered; those of the user get it in any case."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._note:  # otherwise a callback has set its own meanwhile
                signal.signal(number, before)
        received, self.received = self.received, None
        if received is None:
            return
        if error is None or _is_users(self._before[received]):
            signal.raise_signal(received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            self._leave_to_child(number, frame)
            return
        if number == signal.SIGINT:
            self._interrupt()
        if self.received is None:
            self.received = number

    def _interrupt(self) -> None:
        """The first Ctrl-C is noted, and said; the next one stops."""
        before, now = self._interrupted_at, time.monotonic()
        self._interrupted_at = now
        if before is None:
            _say("Stopping after this step, with a checkpoint. Ctrl-C again stops at once.")
        elif now - before > _echo_seconds():
            self.received = None
            raise KeyboardInterrupt

    def _leave_to_child(self, number: int, frame: FrameType | None) -> None:
        """A process that was forked from this one does what it would have done without this handler."""
        before = self._before[number]
        signal.signal(number, before)
        signal.raise_signal(number)


def _is_users(handler: Any) -> bool:
    return callable(handler) and handler is not signal.default_int_handler


def _echo_seconds() -> float:
    return ECHO_SECONDS if "TORCHELASTIC_RUN_ID" in os.environ else 0.0


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except RuntimeError:  # the signal came in the middle of another line
        os.write(2, f"\n{line}\n".encode())
