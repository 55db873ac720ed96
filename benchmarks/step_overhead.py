"""What a training step costs beyond its arithmetic: hand-written loops against trainers, side by side.

python benchmarks/step_overhead.py                    # everything, fifteen rounds
python benchmarks/step_overhead.py --short            # under three minutes
python benchmarks/step_overhead.py --only clip1 bert12 --contenders bare etude
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import _harness as harness

VARIANT_NAMES = ("plain", "clip1", "log10", "accumulate4", "bert12")
CONTENDER_NAMES = ("bare", "bare_tuned", "etude", "transformers", "accelerate", "lightning")
SAME_TRAINING = 1e-3
Blocks = dict[str, list[dict[str, float]]]


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=VARIANT_NAMES, default=VARIANT_NAMES, help="variants to run"
    )
    parser.add_argument("--contenders", nargs="+", choices=CONTENDER_NAMES, default=CONTENDER_NAMES)
    parser.add_argument("--repeats", type=int, help="rounds over all contenders (default 15, short 7)")
    parser.add_argument(
        "--steps", type=int, help="micro-steps of a block (default 500, bert12 60; short half)"
    )
    parser.add_argument("--short", action="store_true", help="fewer and shorter blocks")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--keep", metavar="NAME", help="also write benchmarks/results/NAME.json and .md")
    parser.add_argument(
        "--worker", nargs=3, metavar=("CONTENDER", "VARIANT", "STEPS"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    options.repeats = options.repeats or (7 if options.short else 15)
    return options


def work(contender: str, variant_name: str, num_steps: int) -> None:
    """Be the worker process of one contender."""
    import torch
    from _contenders import CONTENDERS
    from _workloads import VARIANTS, Task

    torch.set_num_threads(1)
    variant = VARIANTS[variant_name]
    task = Task(variant, num_steps)
    CONTENDERS[contender](task, harness.BlockGate(variant.warmup, task.distance_trained))


def measure(
    name: str, contenders: list[str], options: argparse.Namespace
) -> tuple[Blocks, dict[str, str], int]:
    """Run one variant; returns its blocks, the contenders that failed, and the micro-steps of a block."""
    from _workloads import VARIANTS

    variant = VARIANTS[name]
    micro_steps = options.steps or variant.micro_steps // (2 if options.short else 1)
    block = max(1, micro_steps // variant.accumulation)
    num_steps = variant.warmup + block * options.repeats + 1
    commands = {
        contender: [sys.executable, __file__, "--worker", contender, name, str(num_steps)]
        for contender in contenders
    }
    blocks, failures = harness.measure_in_turn(commands, block, options.repeats)
    return blocks, failures, block * variant.accumulation


def table_rows(name: str, blocks: Blocks, micro_steps: int) -> list[dict[str, Any]]:
    """One row a contender: microseconds of a micro-step, and the ratios taken round by round."""
    cpu = {
        contender: [b["cpu_s"] / micro_steps * 1e6 for b in reports] for contender, reports in blocks.items()
    }
    rows = []
    for contender, values in cpu.items():
        wall = [block["wall_s"] / micro_steps * 1e6 for block in blocks[contender]]
        rows.append(
            {
                "variant": name,
                "contender": contender,
                "cpu_us": statistics.median(values),
                "min..max": f"{min(values):,.0f}..{max(values):,.0f}",
                "x bare": harness.ratio_to("bare", contender, cpu),
                "x transformers": harness.ratio_to("transformers", contender, cpu),
                "wall_us": statistics.median(wall),
                "quiet_us": min(values),
                "foreign_cpus": statistics.median(b["foreign_cpus"] for b in blocks[contender]),
            }
        )
    return rows


def check_same_training(name: str, blocks: Blocks) -> list[str]:
    """A note for every contender whose weights have not moved as far as the first one's in the same steps."""
    notes = []
    distances = {contender: reports[-1]["fingerprint"] for contender, reports in blocks.items()}
    first, expected = next(iter(distances.items()), ("", 0.0))
    for contender, distance in distances.items():
        if abs(distance - expected) > SAME_TRAINING * expected:
            notes.append(
                f"{name}: {contender} moved its weights by {distance:.5g}, {first} by {expected:.5g}"
            )
    return notes


def main() -> None:
    """Measure every variant asked for and print the table."""
    options = parse_options()
    if options.worker:
        contender, variant, num_steps = options.worker
        work(contender, variant, int(num_steps))
        return
    present = [c for c in options.contenders if c.startswith("bare") or harness.is_installed(c)]
    notes = [f"{c} is not installed: skipped" for c in options.contenders if c not in present]
    rows, raw = [], {}
    for name in options.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        blocks, failures, micro_steps = measure(name, present, options)
        rows += table_rows(name, blocks, micro_steps)
        raw[name] = {"micro_steps": micro_steps, "contenders": blocks}
        notes += [f"{name}: {contender} failed: {message}" for contender, message in failures.items()]
        notes += check_same_training(name, blocks)
    described = {
        "repeats": options.repeats,
        "micro-steps a block": [raw[name]["micro_steps"] for name in raw],
    }
    harness.report_results(
        options.keep or "step_overhead",
        described,
        rows,
        notes,
        raw,
        keep=bool(options.keep),
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
