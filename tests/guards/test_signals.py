"""Are signals noted while a training runs, and is the process afterwards what it was?"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from etude.errors import Preempted
from etude.guards.signals import StopSignals

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Handlers are those of the test run, before and after each test."""
    before = [signal.getsignal(number) for number in ALL]
    yield
    assert [signal.getsignal(number) for number in ALL] == before


@contextmanager
def left_by(kind: type[BaseException]) -> Iterator[None]:
    with pytest.raises(kind):
        yield


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ALL)
def test_a_signal_is_noted(number: int) -> None:
    with left_by(Preempted), StopSignals() as signals:
        assert signals.received is None
        send(number)
        assert signals.received == number
        raise Preempted(1)


def test_the_first_signal_counts() -> None:
    with left_by(Preempted), StopSignals() as signals:
        send(signal.SIGTERM)
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        raise Preempted(1)


def test_the_second_interrupt_stops_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with left_by(KeyboardInterrupt), StopSignals():
        send(signal.SIGINT)
        send(signal.SIGINT)
        raise AssertionError
    assert "Ctrl-C again stops at once" in capsys.readouterr().err


def test_the_echo_of_a_launcher_is_not_a_second_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    now = [100.0]
    monkeypatch.setattr("etude.guards.signals.time.monotonic", lambda: now[0])
    with left_by(KeyboardInterrupt), StopSignals():
        send(signal.SIGINT)
        now[0] += 0.5
        send(signal.SIGINT)
        now[0] += 5
        send(signal.SIGINT)
        raise AssertionError
    assert now == [105.5]


def test_what_was_not_answered_is_handed_on() -> None:
    with left_by(KeyboardInterrupt), StopSignals():
        send(signal.SIGINT)


def test_an_answered_signal_is_not_repeated() -> None:
    with left_by(Preempted), StopSignals():
        send(signal.SIGINT)
        raise Preempted(1)


def test_a_handler_of_the_user_hears_the_signal_afterwards() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with left_by(Preempted), StopSignals():
            send(signal.SIGUSR1)
            assert heard == []
            raise Preempted(1)
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            send(signal.SIGINT)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_was_set_meanwhile_stays() -> None:
    def other(*_: object) -> None: ...

    before = signal.getsignal(signal.SIGTERM)
    try:
        with StopSignals():
            signal.signal(signal.SIGTERM, other)
        assert signal.getsignal(signal.SIGTERM) is other
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_the_main_thread_nothing_is_set() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with StopSignals() as signals:
            found.append((signal.getsignal(signal.SIGTERM), signals.received))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, None)]


@pytest.mark.parametrize("number", ALL)
def test_a_forked_process_ends_as_without_us(number: int) -> None:
    with StopSignals() as signals:
        child = os.fork()
        if child == 0:
            try:
                send(number)
                time.sleep(10)
            except KeyboardInterrupt:
                os._exit(130)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert signals.received is None
    assert status == (130 if number == signal.SIGINT else -number)
