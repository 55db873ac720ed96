"""What padding costs on texts of very different lengths, and what a token budget saves: one epoch, CPU time.

The samples are docstrings of Python's standard library, cut at 400 words: half of them have fewer than 15 words, one
in a hundred more than 250. All contenders train the same small BERT classifier with the same samples in each update.

python benchmarks/skewed_lengths.py                    # three rounds
python benchmarks/skewed_lengths.py --repeats 1 --samples 512
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import _harness as harness

CONTENDERS = ("transformers", "etude", "etude budget")
REFERENCE = "transformers"
LONGEST, BATCH, BUDGET, VOCABULARY = 400, 32, 2048, 5000


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all contenders")
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--keep", metavar="NAME", help="also write benchmarks/results/NAME.json and .md")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def docstrings(count: int) -> list[str]:
    """That many docstrings, spread over the standard library."""
    texts = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # files that are meant to be broken
            continue
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        texts += [
            text for node in ast.walk(tree) if isinstance(node, nodes) and (text := ast.get_docstring(node))
        ]
    return texts[:: max(1, len(texts) // count)][:count]


def samples(count: int) -> list[dict[str, Any]]:
    """Docstrings as hashed words, to be told apart by whether they have an even number of them."""
    rows = []
    for text in docstrings(count):
        tokens = [2 + zlib.crc32(word.encode()) % (VOCABULARY - 2) for word in text.split()[:LONGEST]]
        if tokens:
            rows.append({"input_ids": tokens, "labels": len(tokens) % 2})
    return rows


def work(contender: str, count: int) -> None:
    """Train one epoch and print what it cost."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.set_num_threads(1)
    seen = {"padded": 0, "real": 0}

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        seen["padded"] += ids.numel()
        seen["real"] += int((ids > 0).sum())
        labels = torch.tensor([row["labels"] for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}

    library = __import__(contender.split()[0])
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=LONGEST,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    budget = {"max_tokens_per_batch": BUDGET} if contender.endswith("budget") else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = library.TrainingArguments(
            folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            log_level="error",
            use_cpu=True,
            **budget,
        )
        trainer = library.Trainer(model, arguments, train_dataset=samples(count), data_collator=collate)
        cpu, wall = time.process_time(), time.perf_counter()
        output = trainer.train()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu_s": cpu, "wall_s": wall, "loss": output.training_loss, **seen}))


def run(contender: str, count: int) -> dict[str, float]:
    """One epoch in a process of its own."""
    command = [sys.executable, __file__, "--worker", contender, "--samples", str(count)]
    environment = {**os.environ, **harness.worker_environment()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{contender} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and print the table."""
    options = parse_options()
    if options.worker:
        work(options.worker, options.samples)
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in options.contenders}
    for _ in range(options.repeats):
        for name, reports in runs.items():
            reports.append(run(name, options.samples))
    cpu = {name: [report["cpu_s"] for report in reports] for name, reports in runs.items()}
    rows = [
        {
            "contender": name,
            "cpu_s": statistics.median(cpu[name]),
            "wall_s": statistics.median(report["wall_s"] for report in reports),
            f"x {REFERENCE}": harness.ratio_to(REFERENCE, name, cpu),
            "padded / real tokens": reports[0]["padded"] / reports[0]["real"],
            "train_loss": reports[0]["loss"],
        }
        for name, reports in runs.items()
    ]
    settings = {"repeats": options.repeats, "samples": options.samples, "batch": BATCH, "budget": BUDGET}
    harness.report_results(
        options.keep or "skewed_lengths",
        settings,
        rows,
        [],
        runs,
        keep=bool(options.keep),
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
