"""Pushes in the background: their state, their errors, and no bars."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import utils

from etude.hub import client


def test_a_push_in_progress_knows_its_state() -> None:
    gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = client.PushInProgress(
            [pool.submit(gate.wait), pool.submit(int, "x"), pool.submit(int, "3")]
        )
        assert not running.is_done()
        assert running.last_error() is None
        first = list(running.jobs)
        running.cancel()  # those that wait; the first has begun, or is about to
        gate.set()
        running.wait_until_done()
        assert running.is_done()
        assert first[2].cancelled()
        assert first[2] not in running.jobs


def test_the_last_error_is_that_of_the_last_push() -> None:
    with ThreadPoolExecutor(1) as pool:
        jobs = [pool.submit(int, text) for text in ("1", "x")]
    assert isinstance(client.PushInProgress(jobs).last_error(), ValueError)
    assert client.PushInProgress(jobs[::-1]).last_error() is None
    assert client.PushInProgress().last_error() is None
    assert client.PushInProgress().is_done()


@pytest.mark.parametrize("off_before", [True, False])
def test_bars_are_off_for_a_while(off_before: bool) -> None:
    was_off = utils.are_progress_bars_disabled()
    (utils.disable_progress_bars if off_before else utils.enable_progress_bars)()
    try:
        with client.without_bars():
            assert utils.are_progress_bars_disabled()
        assert utils.are_progress_bars_disabled() is off_before
    finally:
        (utils.disable_progress_bars if was_off else utils.enable_progress_bars)()


def test_an_error_is_told_with_its_cause_in_one_line() -> None:
    error = RuntimeError("Uploading failed\nlong story")
    error.__cause__ = OSError("\n  disk full.\nmore")
    assert client.first_line(error) == "Uploading failed. disk full."
    assert client.first_line(KeyError()) == "KeyError."
