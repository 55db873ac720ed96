"""What the loop hears of signals and the clock, and where it may leave an evaluation."""

from __future__ import annotations

import signal

import pytest

from etude.guards.clock import Clock
from etude.guards.preempt import SAVE, STOP, EvaluationLeft, Interruptions, leave, reason
from etude.guards.signals import StopSignals
from tests.guards.test_clock import Time


def test_exit_codes_are_those_that_schedulers_know() -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGUSR1, 128 + signal.SIGUSR1)):
        left = leave(STOP + number, step=7)
        assert isinstance(left, SystemExit)
        assert (left.code, reason(STOP + number)) == (code, signal.Signals(number).name)
    assert isinstance(leave(STOP + signal.SIGINT, 7), KeyboardInterrupt)
    assert leave(STOP, 7).code == 75  # type: ignore[attr-defined]


def test_wishes_of_the_clock_are_answered_once() -> None:
    now = Time()
    interruptions = Interruptions(clock=Clock(save_every=60, max_time=150, now=now))
    found = []
    for _ in range(6):
        now.now += 30
        interruptions.step()
        found.append(interruptions.between_steps())
    assert found == [0, SAVE, 0, SAVE, STOP, STOP]


def test_only_the_main_process_looks_at_its_clock() -> None:
    now = Time()
    interruptions = Interruptions(clock=Clock(save_every=60, now=now), rank=1, size=2)
    now.now += 100
    assert interruptions.between_steps() == 0


def test_an_evaluation_is_left_only_where_it_may_be() -> None:
    signals = StopSignals()
    interruptions = Interruptions(signals)
    signals.received = signal.SIGTERM
    assert list(interruptions.watched(iter("ab"))) == ["a", "b"]  # a callback's, not the loop's
    with interruptions.evaluating(lambda: False):
        assert list(interruptions.watched(iter("ab"))) == ["a", "b"]
    with pytest.raises(EvaluationLeft), interruptions.evaluating(lambda: True):
        list(interruptions.watched(iter("ab")))
    assert interruptions.between_steps() == STOP + signal.SIGTERM


def test_a_checkpoint_that_falls_due_in_an_evaluation_waits_for_its_end() -> None:
    now = Time()
    interruptions = Interruptions(clock=Clock(save_every=60, now=now))
    now.now += 100
    with interruptions.evaluating(lambda: True):
        assert list(interruptions.watched(iter("ab"))) == ["a", "b"]
    assert interruptions.between_steps() == SAVE
    assert interruptions.between_steps() == 0
