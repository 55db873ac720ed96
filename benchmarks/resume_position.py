"""How long a resumed epoch takes to its first batch, 90 % into a data set of a million samples; in CPU time.

python benchmarks/resume_position.py
python benchmarks/resume_position.py --samples 100000 --repeats 3
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import _harness as harness
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from etude.core.world import World
from etude.data.epoch import position_of, set_epoch, start_at
from etude.data.loader import LoaderSettings, train_loader
from etude.data.samplers import EpochSampler

BATCH = 32
WIDTH = 16  # numbers of a sample


class Map(Dataset[Any]):
    """Samples that cost what a small tensor costs."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.full((WIDTH,), float(index)), "labels": index % 2}


class Plain(IterableDataset[Any]):
    """The same samples as a stream."""

    def __init__(self, size: int) -> None:
        self.samples = Map(size)
        self.at = 0

    def __iter__(self) -> Iterator[Any]:
        while self.at < len(self.samples):
            self.at += 1
            yield self.samples[self.at - 1]
        self.at = 0


class Stateful(Plain):
    """The same, which can be entered anywhere."""

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.at = state_dict["at"]


def streamed(size: int) -> Any:
    """Numbers as a stream of the package datasets."""
    from datasets import Dataset as Table

    return Table.from_dict({"x": range(size)}).to_iterable_dataset(num_shards=16)


DATA: dict[str, Callable[[int], Any]] = {
    "map": Map,
    "stateful stream": Stateful,
    "datasets stream": streamed,
    "plain stream": Plain,
}


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=tuple(DATA))
    parser.add_argument(
        "--skip-reference", action="store_true", help="accelerate reads streams from the start"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--keep", metavar="NAME", help="also write benchmarks/results/NAME.json and .md")
    return parser.parse_args()


def make_loader(dataset: Any) -> Any:
    """Etude's loader, as the Trainer makes it."""
    order = None if isinstance(dataset, IterableDataset) else EpochSampler(dataset, seed=1)
    return train_loader(
        dataset,
        order,
        torch.utils.data.default_collate,
        batch_size=BATCH,
        drop_last=False,
        seed=1,
        world=World(),
        settings=LoaderSettings(),
    )


def left_at(dataset: Any, step: int) -> Any:
    """What a run tells of its place after `step` batches."""
    if not isinstance(dataset, IterableDataset):
        return None
    batches = start_at(make_loader(dataset), 0)
    for _ in range(step):
        next(batches)
    return position_of(batches, step)


def seconds_of_etude(dataset: Any, step: int, position: Any) -> float:
    """From a new loader to its first batch, of this process."""
    loader = make_loader(dataset)
    began = time.process_time()
    set_epoch(loader, 0)
    next(start_at(loader, step, position))
    return time.process_time() - began


def seconds_of_accelerate(dataset: Any, step: int) -> float:
    """The same, as transformers' Trainer resumes."""
    from accelerate import skip_first_batches

    shuffled = {} if isinstance(dataset, IterableDataset) else {"shuffle": True}
    loader = DataLoader(dataset, batch_size=BATCH, **shuffled)
    began = time.process_time()
    next(iter(skip_first_batches(loader, step)))
    return time.process_time() - began


def measure(name: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each contender, round by round; what is slow is measured once."""
    make, step = DATA[name], int(options.samples * 0.9) // BATCH
    position = left_at(make(options.samples), step)
    if name == "plain stream":
        position = None
    times: dict[str, list[float]] = {"etude": [], "accelerate": []}
    for _ in range(options.repeats):
        times["etude"].append(seconds_of_etude(make(options.samples), step, position))
        if times["etude"][-1] > 2:
            break
    while not options.skip_reference and len(times["accelerate"]) < options.repeats:
        times["accelerate"].append(seconds_of_accelerate(make(options.samples), step))
        if times["accelerate"][-1] > 2:
            break
    return times


def table_row(name: str, times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and their ratio."""
    medians = {who: 1000 * statistics.median(found) for who, found in times.items() if found}
    reference = medians.get("accelerate")
    return {
        "data": name,
        "etude_ms": medians["etude"],
        "min..max": f"{1000 * min(times['etude']):.1f}..{1000 * max(times['etude']):.1f}",
        "accelerate_ms": reference,
        "times sooner": None if reference is None else reference / medians["etude"],
    }


def main() -> None:
    """Measure and print the table."""
    options = parse_options()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    raw = {name: measure(name, options) for name in options.data}
    harness.report_results(
        options.keep or "resume_position",
        {"samples": options.samples, "batch": BATCH, "repeats": options.repeats},
        [table_row(name, times) for name, times in raw.items()],
        ["The plain stream cannot be entered: both read it from its start, etude without making batches."],
        raw,
        keep=bool(options.keep),
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
