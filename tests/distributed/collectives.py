"""Two ranks whose `compute_loss` meets the other in training and evaluation, as TRL's does; what the view gathers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import etude
from tests import helpers


class Gathering(etude.Trainer):
    """Gathers the samples of every evaluated batch over the ranks."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        if not model.training:
            rows = self.accelerator.gather_for_metrics(inputs["features"][:, 0])
            self.seen.append(rows.tolist())
            self.counts.append(
                self.accelerator.gather_for_metrics(torch.tensor(len(inputs["labels"]))).tolist()
            )
        return super().compute_loss(model, inputs, return_outputs, **kwargs)


def run(output_dir: Path) -> None:
    """Leaves `collectives-{rank}.pt`."""
    trainer = Gathering(
        helpers.DictClassifier(),
        helpers.training_arguments(etude, output_dir, per_device_eval_batch_size=2, max_steps=1),
        train_dataset=helpers.feature_rows(8),
        eval_dataset=helpers.feature_rows(9),
    )
    trainer.seen, trainer.counts = [], []
    loss = trainer.evaluate()["eval_loss"]
    view, rank = trainer.accelerator, trainer.args.process_index
    loader = view.prepare(DataLoader(torch.arange(9), batch_size=2))
    walked = [view.gather_for_metrics(batch).tolist() for batch in loader]
    with view.split_between_processes(list("abc"), apply_padding=True) as part:
        share = part
    found = {
        "loss": loss,
        "seen": trainer.seen,
        "counts": trainer.counts,
        "walked": walked,
        "uneven": view.gather(torch.full((rank + 1,), float(rank))).tolist(),
        "scalars": view.gather(torch.tensor(rank)).tolist(),
        "padded": view.pad_across_processes(torch.ones(rank + 1), pad_index=7, pad_first=True).tolist(),
        "sum": view.reduce(torch.tensor([1.0, rank])).tolist(),
        "mean": view.reduce({"x": torch.tensor(float(rank))}, reduction="mean")["x"].item(),
        "objects": view.gather_for_metrics([f"of {rank}"]),
        "share": share,
    }
    torch.save(found, output_dir / f"collectives-{rank}.pt")
