"""What a Trainer keeps to itself, behind one attribute, out of the way of the names that subclasses use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from etude.checkpoint.draft import Draft
from etude.checkpoint.remote import Mirror
from etude.checkpoint.resolve import Resolver
from etude.checkpoint.store import CheckpointStore
from etude.checkpoint.writer import CheckpointWriter
from etude.loops.accumulate import Accumulation
from etude.loops.run import Run
from etude.models.compiling import Compilation
from etude.precision import Precision, float32_matmul
from etude.strategies.base import Strategy


@dataclass
class Engine:
    """The parts that live as long as the Trainer, and the run in progress.

    Attributes:
        tf32: whether float32 products may use TensorFloat32; None: as PyTorch is set.
        store: the checkpoints of `args.output_dir`.
        mirror: the copy of the run's folder on another storage, where `args.output_dir` is a URL.
        accumulation: the weights of the micro-batches of the update in progress.
        run: the parts of the training in progress, or of the last one.
        counts_label_shift: whether the model's loss leaves out the first label of each sequence.
        operations: floating-point operations for one element of the main input; None until it is asked for.
        told_columns: which data sets' left-out columns have been told.
        kept_loaders: what the loaders that are kept between evaluations were made from, by name.
        kept_accumulation: accumulation steps that keep the global batch of a checkpoint of other processes, where
            they are not those of the arguments.
        created_scheduler: whether the Trainer made the schedule itself, and makes a new one for each training.
    """

    strategy: Strategy
    precision: Precision
    compilation: Compilation
    tf32: bool | None
    store: CheckpointStore
    mirror: Mirror
    writer: CheckpointWriter
    accumulation: Accumulation
    run: Run | None = None
    counts_label_shift: bool = False
    operations: int | None = None
    kept_accumulation: int | None = None
    created_scheduler: bool = False
    told_columns: set[str] = field(default_factory=set)
    kept_loaders: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def resolver(self) -> Resolver:
        """Finds the checkpoint to go on from."""
        return Resolver(self.strategy, self.store.writes)

    def draft(self, folder: str) -> Draft:
        """The checkpoint in the making whose folder this is; files of any other folder are written at once."""
        current = self.writer.draft
        return (
            current if current is not None and current.folder == Path(folder) else Draft(Path(folder), None)
        )

    @contextmanager
    def running(self, model: nn.Module) -> Iterator[None]:
        """While it lasts, `model` runs in the chosen precision, and compiled if so chosen. Leaves no trace on it."""
        with float32_matmul(self.tf32), self.compilation.applied(model), self.precision.applied(model):
            yield
