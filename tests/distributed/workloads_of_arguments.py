"""What the processes of the tests of arguments do."""

from __future__ import annotations

import time
from pathlib import Path

import etude
from tests import helpers


def run_main_process_first(output_dir: Path) -> None:
    """Writes down who went first, what an error did, and how far a training came."""
    args = helpers.training_arguments(etude, output_dir, max_steps=1)
    rank = args.process_index
    with args.main_process_first(local=False, desc="writing"):
        if rank == 0:
            time.sleep(0.5)  # long enough for the other process to overtake, if it could
        with (output_dir / "order").open("a") as file:
            file.write("main\n" if rank == 0 else "other\n")
    try:
        with args.main_process_first():
            raise ValueError("no data")
    except ValueError as error:
        (output_dir / f"error-{rank}").write_text(str(error))
    trainer = etude.Trainer(helpers.DictClassifier(), args, train_dataset=helpers.feature_rows(8))
    (output_dir / f"steps-{rank}").write_text(str(trainer.train().global_step))
