"""Do all processes answer a wish at one point, whenever it comes, without holding each other up?"""

from __future__ import annotations

import random
import threading
import time

import pytest

from etude.errors import SetupError
from etude.guards.agreement import Agreement, Point

SAVE, STOP = 1, 100


class SharedBoard:
    """A store for threads in place of processes."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def multi_get(self, keys: list[str]) -> list[bytes]:
        return [self.values[key].encode() for key in keys]


class Walk:
    """Several ranks in threads, which meet at a barrier in each step as they would in a collective."""

    def __init__(self, size: int, seed: int, steps: int, lockstep: bool = True) -> None:
        self.wishes = [0] * size
        self.stopped: list[Point | None] = [None] * size
        self.saved: list[list[Point]] = [[] for _ in range(size)]
        self.random = [random.Random(seed * 100 + rank) for rank in range(size)]
        self.barrier = threading.Barrier(size, timeout=20)
        self.steps, self.lockstep = steps, lockstep
        board = SharedBoard()
        self.agreements = [
            Agreement(board, rank, size, lambda rank=rank: self.wishes[rank], interval=0.004, patience=20)
            for rank in range(size)
        ]

    def run(self) -> None:
        threads = [threading.Thread(target=self.walk, args=[rank]) for rank in range(len(self.wishes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def walk(self, rank: int) -> None:
        agreement, numbers = self.agreements[rank], self.random[rank]
        agreement.open()
        for step in range(1, self.steps + 1):
            time.sleep(numbers.random() * 0.002)
            if self.lockstep:
                self.barrier.wait()
            wish = agreement.reached((step, 0))
            if wish == SAVE:
                self.saved[rank].append((step, 0))
                self.wishes[rank] = 0
            elif wish:
                self.stopped[rank] = (step, 0)
                break
        agreement.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [2, 5])
def test_all_stop_at_one_point(size: int, seed: int) -> None:
    walk = Walk(size, seed, steps=4000)
    timer = threading.Timer(0.01 * seed, lambda: walk.wishes.__setitem__(seed % size, STOP + 15))
    timer.start()
    walk.run()
    assert len(set(walk.stopped)) == 1
    assert walk.stopped[0] is not None


def test_all_save_at_the_same_points_and_stop_at_the_last() -> None:
    walk = Walk(3, seed=1, steps=4000)

    def ask() -> None:
        for wish in (SAVE, SAVE, STOP):
            time.sleep(0.05)
            walk.wishes[0] = wish

    timer = threading.Thread(target=ask)
    timer.start()
    walk.run()
    timer.join()
    assert walk.saved[0] == walk.saved[1] == walk.saved[2] != []
    assert len(set(walk.stopped)) == 1


def test_the_largest_of_several_wishes_counts() -> None:
    walk = Walk(3, seed=2, steps=4000)
    walk.wishes = [SAVE, STOP + 15, STOP]
    walk.run()
    assert len(set(walk.stopped)) == 1
    assert walk.stopped[0] is not None


def test_processes_that_do_not_wait_for_each_other_stop_at_one_point_too() -> None:
    walk = Walk(3, seed=3, steps=4000, lockstep=False)
    threading.Timer(0.03, lambda: walk.wishes.__setitem__(2, STOP)).start()
    walk.run()
    assert len(set(walk.stopped)) == 1


@pytest.mark.parametrize("after", [0.0, 0.005, 0.01, 0.015])
def test_a_wish_at_the_very_end_holds_nobody_up(after: float) -> None:
    walk = Walk(3, seed=4, steps=8)
    threading.Timer(after, lambda: walk.wishes.__setitem__(1, STOP)).start()
    walk.run()
    assert len(set(walk.stopped)) == 1  # all of them at one step, or nobody


def walk_alone(agreement: Agreement) -> None:
    for step in range(1, 1000):
        time.sleep(0.001)
        agreement.reached((step, 0))


def test_nobody_who_answers_is_an_error() -> None:
    agreement = Agreement(SharedBoard(), 0, 2, lambda: STOP, interval=0.001, patience=0.05)
    agreement.open()
    with pytest.raises(SetupError, match="cannot be asked where to stop"):
        walk_alone(agreement)
    agreement.close()


def test_a_board_that_is_gone_is_an_error_where_it_is_needed() -> None:
    class Gone(SharedBoard):
        def set(self, key: str, value: str) -> None:
            raise ConnectionError("closed")

    agreement = Agreement(Gone(), 0, 2, lambda: STOP, interval=0.001)
    agreement.open()
    with pytest.raises(SetupError, match="closed"):
        walk_alone(agreement)
    agreement.close()
