"""One point of the run at which all processes do something that any of them has wished for.

Processes that exchange gradients may not stop at different steps: the others would wait for ever. Asking all of them at
every step would cost a collective a step. Instead a thread of each process looks now and then whether somebody has left
a wish in the store that the processes have met through. Then

1. every process stops going further than the next point of its run (`reached` waits there), and says which point it
   has passed last;
2. when all have said so, they all know the latest of these points. Nobody has passed it by more than the way to the
   next one, so the next one after it is where all of them answer the wish; those behind it go on up to there.

Only threads wait for each other, so it does not matter that processes wait for each other in collectives on their way.
What it costs otherwise is a lock at each point, and a question to the store in each `interval`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Protocol

from etude.errors import SetupError

Point = tuple[int, int]
LAST: Point = (2**62, 0)


class Board(Protocol):
    """Where processes leave text for each other; PyTorch's stores are such."""

    def set(self, key: str, value: str) -> None: ...

    def check(self, keys: list[str]) -> bool: ...

    def multi_get(self, keys: list[str]) -> list[bytes]: ...


class Agreement:
    """This process's part in agreeing. Points are numbered alike on all processes, and rise.

    Args:
        board: what all processes share; no other thread may use it.
        rank: of this process.
        size: number of processes.
        wish: what this process wishes for, 0 for nothing; of several wishes the largest counts.
        interval: seconds between two looks at the board.
        patience: seconds after which processes that do not answer are an error.
    """

    def __init__(
        self,
        board: Board,
        rank: int,
        size: int,
        wish: Callable[[], int],
        interval: float = 0.2,
        patience: float = 1800.0,
    ) -> None:
        self._board = board
        self._rank = rank
        self._size = size
        self._wish = wish
        self._interval = interval
        self._patience = patience
        self._changed = threading.Condition()
        self._point: Point = (0, 0)
        self._round = 0
        self._said = -1
        self._verdict: tuple[Point, int] | None = None
        self._failure: Exception | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="agreement", daemon=True)

    def open(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def reached(self, point: Point) -> int:
        """Passes a point of the run: the wish that all processes answer here, 0 for none.

        Raises:
            SetupError: the other processes do not answer.
        """
        with self._changed:
            self._point = point
            if self._said < self._round:
                return 0
            if not self._changed.wait_for(lambda: self._verdict or self._failure, self._patience):
                self._failure = TimeoutError(f"no answer in {self._patience:.0f} s")
            if self._verdict is None:
                raise SetupError(
                    f"The other processes cannot be asked where to stop ({self._failure}): this one leaves without a "
                    "checkpoint."
                )
            last, wish = self._verdict
            if point <= last:
                return 0
            self._verdict = None
            self._round += 1
            return wish

    def close(self) -> None:
        """Passes the last point of the run, so that nobody waits for this process."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            for number in range(self._said + 1, self._round + 2):
                self._say(number, LAST, 0)
        except Exception:  # the process that keeps the board has left before
            return

    def _listen(self) -> None:
        while not self._closing.wait(self._interval):
            try:
                if self._said < self._round and (self._wish() or self._board.check([f"{self._round}"])):
                    self._meet(self._round)
            except Exception as error:
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return

    def _meet(self, number: int) -> None:
        with self._changed:
            self._said = number  # from here on the run waits at its next point
            point = self._point
        self._board.set(f"{number}", "")
        self._say(number, point, self._wish())
        keys = [f"{number}/{rank}" for rank in range(self._size)]
        while not self._board.check(keys):
            if self._closing.wait(0.01):
                return
        said = [json.loads(text) for text in self._board.multi_get(keys)]
        with self._changed:
            self._verdict = max(tuple(s["point"]) for s in said), max(s["wish"] for s in said)
            self._changed.notify_all()

    def _say(self, number: int, point: Point, wish: int) -> None:
        said: dict[str, Any] = {"point": point, "wish": wish}
        self._board.set(f"{number}/{self._rank}", json.dumps(said))
