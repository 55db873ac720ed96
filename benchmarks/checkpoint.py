"""What checkpoints cost: how long a save holds up the training, and how soon a resumed run has done its first step.

python benchmarks/checkpoint.py                       # 100 million parameters with AdamW; takes 10 GB of memory
python benchmarks/checkpoint.py --layers 4 --saves 2  # a quick look
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness

NAMES = ("bare", "transformers", "etude")
REFERENCE = "transformers"
MODES = ("fresh", "resume")
Blocks = dict[str, list[dict[str, float]]]


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--layers", type=int, default=24, help="of 4.2 million parameters each")
    parser.add_argument(
        "--saves", type=int, default=5, help="how often each contender saves; the first counts apart"
    )
    parser.add_argument("--calm", type=int, default=6, help="steps before a save that nothing disturbs")
    parser.add_argument("--resumes", type=int, default=5, help="how often each contender starts and resumes")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch in each contender")
    parser.add_argument("--folder", help="where checkpoints go; by default where temporary files do")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument("--keep", metavar="NAME", help="also write benchmarks/results/NAME.json and .md")
    parser.add_argument("--worker", nargs=2, metavar=("CONTENDER", "MODE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def command(options: argparse.Namespace, contender: str, mode: str, folder: str) -> list[str]:
    """The command line of a worker."""
    numbers = {
        "--layers": options.layers,
        "--calm": options.calm,
        "--threads": options.threads,
        "--folder": folder,
    }
    given = [str(part) for pair in numbers.items() for part in pair]
    return [sys.executable, __file__, "--worker", contender, mode, *given]


def measure_saves(options: argparse.Namespace, folder: str) -> tuple[Blocks, dict[str, str]]:
    """Let every contender train and save, one after another, again and again."""
    commands = {name: command(options, name, "save", f"{folder}/{name}") for name in options.contenders}
    return harness.measure_in_turn(commands, 1, options.saves)


def save_rows(blocks: Blocks) -> list[dict[str, Any]]:
    """One row a contender: what the loop loses to the first save, and to a later one."""

    def ratio(name: str, which: slice) -> float | None:
        times = {each: [block["blocked_s"] for block in reports[which]] for each, reports in blocks.items()}
        return harness.ratio_to(REFERENCE, name, times)

    def median(name: str, what: str) -> float:
        return statistics.median(block[what] for block in blocks[name][1:])

    return [
        {
            "contender": name,
            "first_save_s": reports[0]["blocked_s"],
            f"first x {REFERENCE}": ratio(name, slice(1)),
            "later_save_s": median(name, "blocked_s"),
            f"later x {REFERENCE}": ratio(name, slice(1, None)),
            "slower_steps_s": median(name, "slower_s"),
            "written_after_s": median(name, "written_s"),
            "step_s": median(name, "step_s"),
            "foreign_cpus": median(name, "foreign_cpus"),
        }
        for name, reports in blocks.items()
        if len(reports) > 1
    ]


def measure_starts(options: argparse.Namespace, folder: str) -> Blocks:
    """Start and resume every contender, one after another, again and again; each in a process of its own."""
    blocks: Blocks = {f"{name} {mode}": [] for name in options.contenders for mode in MODES}
    for _ in range(options.resumes):
        for name in options.contenders:
            for mode in MODES:
                done = subprocess.run(
                    command(options, name, mode, f"{folder}/{name}"),
                    env=harness.worker_environment(),
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode != 0:
                    raise SystemExit(f"{name} {mode} failed: {done.stderr[-500:]}")
                blocks[f"{name} {mode}"].append(json.loads(done.stdout.splitlines()[-1]))
    return blocks


def start_rows(blocks: Blocks) -> list[dict[str, Any]]:
    """One row a contender and mode: from the call of `train` to the end of its first step."""
    times = {name: [block["first_step_s"] for block in reports] for name, reports in blocks.items()}
    return [
        {
            "contender": name,
            "first_step_s": statistics.median(values),
            f"x {REFERENCE}": harness.ratio_to(f"{REFERENCE} {name.split()[1]}", name, times),
            "min..max": f"{min(values):.2f}..{max(values):.2f}",
            "memory_mb": statistics.median(block["memory_mb"] for block in blocks[name]),
            "own_memory_mb": statistics.median(block["own_memory_mb"] for block in blocks[name]),
        }
        for name, values in times.items()
    ]


def main() -> None:
    """Measure and print both tables."""
    options = parse_options()
    if options.worker:
        from _saving import work

        work(*options.worker, options)
        return
    present = [name for name in options.contenders if name == "bare" or harness.is_installed(name)]
    notes = [f"{name} is not installed: skipped" for name in options.contenders if name not in present]
    options.contenders = present
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        blocks, failures = measure_saves(options, folder)
        notes += [f"{name} failed: {message}" for name, message in failures.items()]
        options.contenders = [name for name in present if name in blocks]
        starts = measure_starts(options, folder)
    described = {
        "parameters": f"{options.layers * 4.196:.0f} million",
        "threads": options.threads,
        "saves": options.saves,
        "resumes": options.resumes,
    }
    for title, rows, raw in (("saving", save_rows(blocks), blocks), ("resuming", start_rows(starts), starts)):
        harness.report_results(
            f"{options.keep or 'checkpoint'}-{title}",
            described,
            rows,
            notes,
            raw,
            keep=bool(options.keep),
            as_json=options.json,
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
