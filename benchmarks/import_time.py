"""What it costs to import a trainer: whole processes, against `import torch`.

python benchmarks/import_time.py
python benchmarks/import_time.py --repeats 15 --json
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import _harness as harness

IMPORTS = {
    "python": "",
    "torch": "import torch",
    "etude": "import etude",
    "etude.Trainer": "from etude import Trainer, TrainingArguments",
    "transformers.Trainer": "from transformers import Trainer, TrainingArguments",
    "accelerate": "import accelerate",
    "lightning": "import lightning",
}
COUNT_MODULES = "import sys; print(len(sys.modules))"
REFERENCE, PEER = "torch", "transformers.Trainer"


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="rounds over all contenders")
    parser.add_argument("--contenders", nargs="+", choices=tuple(IMPORTS), default=tuple(IMPORTS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--keep", metavar="NAME", help="also write benchmarks/results/NAME.json and .md")
    return parser.parse_args()


def run_process(statement: str) -> dict[str, float] | None:
    """Run one interpreter that executes `statement` and ends; None if it failed.

    Returns:
        Seconds of wall and of CPU time from start to end, peak resident memory in MiB, number of modules.
    """
    command = [sys.executable, "-c", f"{statement}\n{COUNT_MODULES}"]
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=harness.worker_environment(),
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 has taken it from Popen
    process.stdout.close()
    if process.returncode != 0:
        return None
    return {
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
        "modules": int(output.split()[-1]),
    }


def measure(contenders: list[str], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Run every import `repeats` times, interleaved, after one round that fills the page cache."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for round_number in range(repeats + 1):
        for name in list(runs):
            run = run_process(IMPORTS[name])
            if run is None:
                del runs[name]
            elif round_number > 0:
                runs[name].append(run)
    return runs


def table_rows(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """One row an import: medians, and ratios of CPU time taken round by round."""
    cpu = {name: [run["cpu_s"] for run in reports] for name, reports in runs.items()}
    rows = []
    for name, reports in runs.items():
        wall = [run["wall_s"] for run in reports]
        rows.append(
            {
                "import": name,
                "cpu_s": statistics.median(cpu[name]),
                "wall_s": statistics.median(wall),
                "min..max wall": f"{min(wall):.2f}..{max(wall):.2f}",
                f"x {REFERENCE}": harness.ratio_to(REFERENCE, name, cpu),
                f"x {PEER}": harness.ratio_to(PEER, name, cpu),
                "modules": int(statistics.median(run["modules"] for run in reports)),
                "peak_mib": statistics.median(run["peak_mib"] for run in reports),
            }
        )
    return rows


def main() -> None:
    """Measure and print the table."""
    options = parse_options()
    present = [name for name in options.contenders if can_run(name)]
    notes = [f"{name} is not installed: skipped" for name in options.contenders if name not in present]
    runs = measure(present, options.repeats)
    notes += [f"{name}: the import failed" for name in present if name not in runs]
    harness.report_results(
        options.keep or "import_time",
        {"repeats": options.repeats},
        table_rows(runs),
        notes,
        runs,
        keep=bool(options.keep),
        as_json=options.json,
    )


def can_run(name: str) -> bool:
    """Whether the package behind a row of the table is there."""
    return name == "python" or harness.is_installed(name.split(".")[0])


if __name__ == "__main__":
    main()
