"""How many samples a second a Trainer's loader gives of tokenised Arrow data, without loading processes.

python benchmarks/data_path.py                        # batches of 8 and 32, seven rounds
python benchmarks/data_path.py --batch-sizes 16 --rows 100000
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness

CONTENDERS = ("etude", "transformers")
REFERENCE = "transformers"
LONGEST = 512
VOCABULARY = 1000


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--rows", type=int, default=20_000, help="texts of the data set")
    parser.add_argument("--samples", type=int, default=2_000, help="samples of a block")
    parser.add_argument("--repeats", type=int, default=7, help="rounds over the contenders")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--keep", metavar="NAME", help="also write benchmarks/results/NAME.json and .md")
    parser.add_argument("--worker", nargs=3, metavar=("CONTENDER", "BATCH", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def write_texts(folder: str, rows: int) -> None:
    """Token ids, masks and labels of texts as long as mails are: many short ones, a few very long."""
    import datasets
    import numpy as np

    datasets.disable_progress_bars()
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(4.5, 1.0, rows), 4, LONGEST).astype(int)
    columns = {
        "input_ids": [random.integers(1, VOCABULARY, length, dtype=np.int32) for length in lengths],
        "attention_mask": [np.ones(length, dtype=np.int8) for length in lengths],
        "label": random.integers(0, 2, rows),
    }
    datasets.Dataset.from_dict(columns).save_to_disk(folder)


def make_tokenizer() -> Any:
    """A tokenizer that pads; no text is tokenised here."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"[PAD]": 0, **{str(i): i for i in range(1, VOCABULARY)}}
    core = Tokenizer(models.WordLevel(words, unk_token="[PAD]"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]")


def make_model() -> Any:
    """A model that says which columns it takes."""
    from torch import Tensor, nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 1)

        def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Any:
            raise NotImplementedError

    return Model()


def work(contender: str, batch_size: int, folder: str) -> None:
    """Be the worker process of one contender: read batches until told to stop."""
    import importlib

    import datasets
    import torch

    torch.set_num_threads(1)
    library = importlib.import_module(contender)
    arguments = library.TrainingArguments(
        output_dir=f"{folder}-{contender}", per_device_train_batch_size=batch_size, report_to="none"
    )
    trainer = library.Trainer(
        make_model(),
        arguments,
        train_dataset=datasets.load_from_disk(folder),
        processing_class=make_tokenizer(),
    )
    read = 0
    gate = harness.BlockGate(20, lambda: float(read))
    step = 0
    while True:
        for batch in trainer.get_train_dataloader():
            if step == gate.next_step:
                gate.pause()
            read += len(batch["input_ids"])
            step += 1


def table_rows(
    batch_size: int, steps: int, blocks: dict[str, list[dict[str, float]]]
) -> list[dict[str, Any]]:
    """One row a contender: samples of a second of CPU time, and the ratio taken round by round."""
    speeds = {
        name: [steps * batch_size / block["cpu_s"] for block in reports] for name, reports in blocks.items()
    }
    return [
        {
            "batch": batch_size,
            "contender": name,
            "samples/s": statistics.median(values),
            "min..max": f"{min(values):,.0f}..{max(values):,.0f}",
            f"x {REFERENCE}": harness.ratio_to(REFERENCE, name, speeds),
            "foreign_cpus": statistics.median(block["foreign_cpus"] for block in blocks[name]),
        }
        for name, values in speeds.items()
    ]


def main() -> None:
    """Measure every batch size and print the table."""
    options = parse_options()
    if options.worker:
        contender, batch_size, folder = options.worker
        work(contender, int(batch_size), folder)
        return
    rows, notes, raw = [], [], {}
    with tempfile.TemporaryDirectory() as parent:
        folder = f"{parent}/texts"
        write_texts(folder, options.rows)
        for batch_size in options.batch_sizes:
            steps = max(1, options.samples // batch_size)
            commands = {
                name: [sys.executable, __file__, "--worker", name, str(batch_size), folder]
                for name in CONTENDERS
            }
            blocks, failures = harness.measure_in_turn(commands, steps, options.repeats)
            rows += table_rows(batch_size, steps, blocks)
            notes += [f"batches of {batch_size}: {name} failed: {why}" for name, why in failures.items()]
            raw[f"batches of {batch_size}"] = blocks
    described = {"rows": options.rows, "samples a block": options.samples, "repeats": options.repeats}
    harness.report_results(
        options.keep or "data_path",
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
