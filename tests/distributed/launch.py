"""Run a function on several gloo processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def run_ranks(
    workload: Callable[[Path], None], output_dir: Path, world: int, timeout: float = 150, dies: bool = False
) -> None:
    """Call ``workload(output_dir)`` on ``world`` processes that ``torchrun`` starts.

    Args:
        workload: a function at the top of an importable module.
        output_dir: the folder where the processes leave what the test reads.
        world: the number of processes.
        timeout: seconds after which all of them are killed; a hang is then a failure, not a stuck suite.
        dies: a process is meant to be killed, and the others with it.

    Raises:
        AssertionError: a process failed or the time ran out; the message ends with what they printed.
    """
    # ``--standalone`` lets the launcher pick a free port itself, so that suites can run side by side.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    command += ["-m", "tests.distributed.worker", workload.__module__, workload.__name__, str(output_dir)]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # the launcher and its ranks can then be ended as one group
    )
    try:
        printed, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        raise AssertionError(
            f"{workload.__name__} on {world} ranks hung\n{_told_by_ranks(printed)}"
        ) from None
    assert (process.returncode != 0) is dies, (
        f"{workload.__name__} on {world} ranks {'lived' if dies else 'failed'}\n{_told_by_ranks(printed)}"
    )


def _told_by_ranks(printed: str) -> str:
    """The end of what the ranks printed, without the launcher's own report about them."""
    return printed.partition("torch/distributed/elastic/")[0][-2000:]


def child_environment() -> dict[str, str]:
    """The environment of a Python process that imports what this one can."""
    paths = [str(REPOSITORY), *[path for path in sys.path if path and Path(path).is_dir()]]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
    }
