"""How every benchmark here measures: one worker process a contender, asked in turn, compared round by round.

A worker runs its loop until a block of steps is over, reports the time of the block, and waits. The parent
asks the workers one after another (A B C A B C ...), so a disturbance of the machine meets all of them alike,
and it divides the times of one round by each other before it takes medians. Waiting is in no measurement.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "numpy", "transformers", "accelerate", "lightning", "etude")

# One thread each: a second one would measure how two threads share a core, not what a step costs.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


class BlockGate:
    """The worker's side: lets its loop run block by block and times each block.

    Before every step the loop compares its count of optimizer steps with `next_step`, and calls `pause` if
    they are equal. A contender pays nothing else for being measured.
    """

    def __init__(self, warmup_steps: int, fingerprint: Callable[[], float]) -> None:
        """Take over stdin and stdout; what the loop prints from now on goes nowhere.

        Args:
            warmup_steps: number of optimizer steps before the first block.
            fingerprint: one number that tells whether two contenders have trained the same model.
        """
        self.next_step = warmup_steps
        self._fingerprint = fingerprint
        self._replies: TextIO = os.fdopen(os.dup(1), "w")
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        self._start = (time.process_time(), time.perf_counter())

    def pause(self) -> None:
        """Report the block that ends here, wait to be asked for the next one, and start its clock."""
        cpu, wall = time.process_time(), time.perf_counter()
        self._reply(cpu_s=cpu - self._start[0], wall_s=wall - self._start[1], fingerprint=self._fingerprint())
        steps = int(sys.stdin.readline() or 0)
        if steps == 0:
            leave()
        self.next_step += steps
        self._start = (time.process_time(), time.perf_counter())

    def _reply(self, **values: float) -> None:
        self._replies.write(json.dumps(values) + "\n")
        self._replies.flush()


def leave() -> NoReturn:
    """End the process at once: everything is measured, and unwinding a trainer would only take time."""
    os._exit(0)


class Worker:
    """The parent's side of one contender's process."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        """Start `command`, which must build a `BlockGate` and run its loop."""
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=worker_environment(),
        )

    def receive(self) -> dict[str, float] | None:
        """Wait for the next report; None if the process has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def run_block(self, steps: int) -> dict[str, float] | None:
        """Let the contender run `steps` optimizer steps; its report and how busy other processes were."""
        busy, started = busy_processor_seconds(), time.perf_counter()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        report = self.receive()
        if report is not None:
            elapsed = time.perf_counter() - started
            report["foreign_cpus"] = (busy_processor_seconds() - busy - report["cpu_s"]) / elapsed
        return report

    def close(self) -> str:
        """End the process and return the last line it wrote to stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        self._errors.close()
        return lines[-1] if lines else ""


def worker_environment() -> dict[str, str]:
    """The environment of a worker: one thread, no network, no GPU, this checkout's package in front.

    Byte code is written for the checkout as it is for installed packages, or imports would not compare.
    """
    path = os.pathsep.join(filter(None, [str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]))
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **WORKER_ENVIRONMENT, "PYTHONPATH": path}


def busy_processor_seconds() -> float:
    """Processor seconds all processes together have used since boot; NaN where /proc does not tell."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
    except OSError:
        return math.nan
    user, nice, system = (int(field) for field in fields[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def measure_in_turn(
    commands: Mapping[str, Sequence[str]], steps: int, repeats: int
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """Run `repeats` blocks of every contender, interleaved.

    Args:
        commands: contender -> command line of its worker.
        steps: number of optimizer steps of a block.
        repeats: number of rounds.

    Returns:
        The reports of the contenders that lasted, one a round, and a message for each one that failed.
    """
    workers = {name: Worker(name, command) for name, command in commands.items()}
    blocks: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    failed: set[str] = set()
    for name, worker in workers.items():  # warm-ups run at the same time, the blocks never do
        if worker.receive() is None:
            failed.add(name)
    for _ in range(repeats):
        for name, worker in workers.items():
            report = None if name in failed else worker.run_block(steps)
            if report is None:
                failed.add(name)
            else:
                blocks[name].append(report)
    last_words = {name: worker.close() for name, worker in workers.items()}
    lasted = {name: reports for name, reports in blocks.items() if name not in failed}
    return lasted, {name: last_words[name] or "ended without a message" for name in workers if name in failed}


def ratio_to(reference: str, name: str, times: Mapping[str, Sequence[float]]) -> float | None:
    """The median over rounds of `name`'s time over `reference`'s in the same round; None without one."""
    if reference not in times:
        return None
    pairs = zip(times[name], times[reference], strict=True)
    return statistics.median(own / other for own, other in pairs)


def is_installed(package: str) -> bool:
    """Whether a worker could import `package`; etude may also lie in this checkout's `src`."""
    in_checkout = (REPOSITORY / "src" / package / "__init__.py").is_file()
    return in_checkout or importlib.util.find_spec(package) is not None


def describe_machine() -> dict[str, Any]:
    """Processor, number of cores, versions of Python and the packages; nothing that names the host."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "this checkout" if is_installed(package) else "not installed"
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def processor_name() -> str:
    """The model name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table, columns aligned for reading as plain text."""
    header = list(rows[0])
    cells = [header] + [[format_cell(row[key]) for key in header] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def format_cell(value: Any) -> str:
    """Numbers short enough to compare by eye: ratios with two decimals, large numbers without any."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def report_results(
    name: str,
    options: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    raw: Mapping[str, Any],
    *,
    keep: bool,
    as_json: bool,
) -> None:
    """Print the table (or the JSON), and with `keep` write both to `benchmarks/results/NAME.*`."""
    result = {
        "benchmark": name,
        "machine": describe_machine(),
        "options": dict(options),
        "rows": list(rows),
        "notes": list(notes),
        "blocks": raw,
    }
    text = render_markdown(result)
    print(json.dumps(result, indent=1) if as_json else text)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / f"{name}.md").write_text(text + "\n")


def render_markdown(result: Mapping[str, Any]) -> str:
    """A result as a page: what ran where, the table, the notes."""
    machine = result["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    options = ", ".join(f"{key} {value}" for key, value in result["options"].items())
    lines = [
        f"# {result['benchmark']}",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; "
        f"python {machine['python']}, {versions}.",
        f"Options: {options}.",
        "",
        markdown_table(result["rows"]) if result["rows"] else "Nothing was measured.",
    ]
    notes = [f"* {note}" for note in result["notes"]]
    return "\n".join([*lines, "", *notes] if notes else lines)
