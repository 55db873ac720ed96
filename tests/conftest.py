"""Settings every suite shares: no network, one thread, one import path."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch  # after the environment is set

# Subdirectories are imported as ``tests.parity`` and so on, whatever pytest's import mode.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


# One thread keeps sums in one order, so that runs can be compared bit by bit, and suites can run side by side.
torch.set_num_threads(1)

# Their assertions explain themselves like those of the tests.
pytest.register_assert_rewrite("tests.helpers", "tests.parity.runner", "tests.contracts.resuming")


@pytest.fixture(autouse=True, scope="session")
def _interrupts_are_heard() -> Iterator[None]:
    """A shell that runs the tests in the background makes them, and the processes they start, deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
