"""Does the clock say in time when to save and when to stop?"""

from __future__ import annotations

from etude.guards.clock import Clock


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_checkpoint_is_due_when_the_last_one_is_old_enough() -> None:
    now = Time()
    clock = Clock(save_every=60, now=now)
    found = []
    for _ in range(10):
        now.now += 25
        if clock.save_is_due():
            found.append(now.now - 1000)
            clock.saved()
    assert found == [75, 150, 225]


def test_the_run_stops_while_a_step_and_a_checkpoint_still_fit() -> None:
    now = Time()
    clock = Clock(max_time=100, saving_takes=lambda: 10.0, now=now)
    while not clock.time_is_up():
        now.now += 7
        clock.step()
        clock.rest()
    assert now.now - 1000 == 84  # 84 + 7 + 1.5 * 10 = 106 is too late, 77 + 22 = 99 was not
    assert not Clock(now=now).time_is_up()
    assert not Clock(now=now).save_is_due()


def test_an_evaluation_does_not_count_as_a_step() -> None:
    now = Time()
    clock = Clock(max_time=100, now=now)
    now.now += 1
    clock.step()
    now.now += 60
    clock.rest()
    now.now += 1
    clock.step()
    assert not clock.time_is_up()


def test_one_step_is_always_done() -> None:
    now = Time()
    clock = Clock(max_time=10, saving_takes=lambda: 1000.0, now=now)
    assert not clock.time_is_up()
    clock.step()
    assert clock.time_is_up()
