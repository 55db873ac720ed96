"""Every call to the file system fails once, and kills the process once: what is left, and how does the run end?

The calls are those that Python, PyTorch's writer and safetensors make of libc, in the loop and in the thread that
writes. The fast tests take a sample of them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.distributed.launch import REPOSITORY
from tests.faults.injector import environment, is_possible
from tests.faults.sweep import MODES, TOLD

pytestmark = pytest.mark.skipif(not is_possible(), reason="calls are intercepted on Linux, with a C compiler")

SAMPLE = ("kill:9:60", "replace:1:20", "EIO:20:60", "ENOSPC-continue:7:30")
ALL = [
    pytest.param((f"{mode}:0:1",), id=mode, marks=[pytest.mark.slow, pytest.mark.timeout(600)])
    for mode in MODES
]
Report = dict[str, Any]


@pytest.fixture(scope="module", params=[pytest.param(SAMPLE, id="sample"), *ALL])
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    """What happened at each call."""
    folder = tmp_path_factory.mktemp("sweep")
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.sweep", str(folder), *request.param],
        cwd=REPOSITORY,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def where(reports: list[Report], wrong: Callable[[Report], Any]) -> list[str]:
    return [f"{report['mode']}: {report['call']}" for report in reports if wrong(report)]


def test_each_call_is_met(reports: list[Report]) -> None:
    """The sweep would show nothing if the calls came in another order than they were counted in."""
    assert len(reports) > 5
    assert where(reports, lambda report: not report["hit"]) == []
    killed = [report for report in reports if report["mode"] in ("kill", "replace")]
    assert where(killed, lambda report: report["status"] != -signal.SIGKILL) == []


def test_what_is_visible_is_whole(reports: list[Report]) -> None:
    """Every ``checkpoint-N``, by its manifest, right after the fault and at the end."""
    assert where(reports, lambda report: report["broken"] or report["broken later"]) == []


def test_the_run_ends_as_if_nothing_had_happened(reports: list[Report]) -> None:
    """The same weights, history and log file, bit for bit."""
    assert where(reports, lambda report: not report["same"]) == []


def test_nothing_hidden_stays_behind(reports: list[Report]) -> None:
    """But for what could not be removed, until the next start."""
    allowed = [report for report in reports if report["removal"] and report["status"] == 0]
    assert where(reports, lambda report: report["litter"] and report not in allowed) == []


def test_a_failure_is_told_or_does_no_harm(reports: list[Report]) -> None:
    """A checkpoint that cannot be written stops the run, with an error that says so."""
    harmless = ("mkdir", "remove", "rename /checkpoint", "open /.staging-removed")
    failed = [report for report in reports if report["mode"] in ("EIO", "ENOSPC")]
    quiet = [report for report in failed if report["status"] == 0 and report["call"].startswith(harmless)]
    assert where(failed, lambda report: report["status"] != TOLD and report not in quiet) == []


def test_a_run_that_goes_on_loses_the_checkpoint_in_work_only(reports: list[Report]) -> None:
    """The next one is whole."""
    went_on = [report for report in reports if report["mode"].endswith("-continue")]
    assert where(went_on, lambda report: report["status"] != 0) == []

    def lost_another(report: Report) -> bool:
        newest = "checkpoint-2" if "staging-checkpoint-4" in report["call"] else "checkpoint-4"
        return not {newest, "checkpoint-4"} & set(report["left"])

    assert where(went_on, lost_another) == []
