"""Killed at random instants, is the run the one that was never killed?"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.distributed.launch import REPOSITORY, child_environment


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened() -> None:
    """A short form of ``make test-faults``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.torture", "--kills", "18"],
        cwd=REPOSITORY,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0
    assert done.stdout.count("\nkill ") >= 17
    assert "inside a save" in done.stdout
