"""What the suite about other numbers of processes runs; the tests read what is left in the folders."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, default_collate

from tests import helpers

SIZE = 37  # 5 updates of 8 samples an epoch, the last one of 5
BREAKS_AT = 7
# The same command, on however many processes: 8 samples an update on two.
ARGUMENTS: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 10,
    "logging_steps": 3,
    "save_strategy": "steps",
    "save_steps": 2,
    "warmup_steps": 2,
    "weight_decay": 0.1,
    "remove_unused_columns": False,
}
Found = dict[str, Any]


def numbered_rows() -> helpers.Rows:
    """Rows that know their index."""
    rows = helpers.feature_rows(SIZE, seed=6).rows
    return helpers.Rows([{**row, "index": index} for index, row in enumerate(rows)])


class PlainStream(IterableDataset):
    """The rows in their order."""

    def __init__(self) -> None:
        self.rows = numbered_rows()
        self.at = 0

    def __iter__(self) -> Any:
        return (self.rows[index] for index in range(SIZE))


class StatefulStream(PlainStream):
    """The same, which can be entered anywhere."""

    def __iter__(self) -> Any:
        while self.at < SIZE:
            self.at += 1
            yield self.rows[self.at - 1]
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.at = state_dict["at"]


DATA: dict[str, Callable[[], Dataset]] = {
    "map": numbered_rows,
    "plain-stream": PlainStream,
    "stateful-stream": StatefulStream,
}


class Ledger:
    """A collator that writes down which samples each update of this process has."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"ledger-{os.environ.get('RANK', '0')}.jsonl"
        self._seen: list[int] = []

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Any:
        self._seen += [row["index"] for row in rows]
        return default_collate([{k: v for k, v in row.items() if k != "index"} for row in rows])

    def close_update(self, step: int) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([step, self._seen]) + "\n")
        self._seen = []


def train(
    folder: Path,
    data: str = "map",
    model: Callable[[], nn.Module] = helpers.DictClassifier,
    at_break: Callable[[], None] | None = None,
    breaks_at: int = BREAKS_AT,
    resume: bool = False,
    **arguments: Any,
) -> Found:
    """Trains, and files which samples each update had in `folder`; `at_break` is called when it is time to die."""
    ledger = Ledger(folder)
    with helpers.library("etude") as lib:

        class Keeper(lib.TrainerCallback):  # type: ignore[name-defined, misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                ledger.close_update(state.global_step)
                if at_break is not None and state.global_step == breaks_at:
                    at_break()

        torch.manual_seed(3)
        trainer = lib.Trainer(
            model=model(),
            args=helpers.training_arguments(lib, folder / "run", **{**ARGUMENTS, **arguments}),
            train_dataset=DATA[data](),
            data_collator=ledger,
            callbacks=[Keeper()],
        )
        output = trainer.train(resume_from_checkpoint=resume)
    rows = helpers.without_timing(trainer.state.log_history)
    loss = output.training_loss
    return {
        "weights": helpers.weights_of(trainer.model),
        "rows": rows,
        "loss": loss,
        "step": output.global_step,
    }


def samples_of_updates(folder: Path) -> dict[int, list[int]]:
    """Samples of each update, of all processes that have written to `folder`, sorted; of one done twice the last."""
    found: dict[int, list[int]] = {}
    for path in sorted(folder.glob("ledger-*.jsonl")):
        of_process = dict(map(json.loads, path.read_text().splitlines()))
        for step, indices in of_process.items():
            found[step] = sorted([*found.get(step, []), *indices])
    return found


def with_dropout() -> nn.Module:
    """A model that draws random numbers."""
    return helpers.DictClassifier(dropout=0.2)


# --- launches -----------------------------------------------------------------------------------------------------


class BrokenOffError(Exception):
    """What breaks a run off, in order."""


def break_off() -> None:
    """Every process stops here."""
    raise BrokenOffError


def die() -> None:
    """Every process is killed here."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_alone() -> None:
    """The second process is killed here, the other waits for it in vain."""
    if os.environ["RANK"] == "1":
        die()


def keep(folder: Path, name: str, found: Found) -> None:
    """Files what a process has found."""
    torch.save(found, folder / f"{name}-{os.environ['RANK']}.pt")


def run_whole(folder: Path) -> None:
    """Runs that nobody breaks off, and streams that are broken off in order."""
    keep(folder, "dropout", train(folder / "dropout", model=with_dropout))
    for data in DATA:
        keep(folder, data, train(folder / data, data))
        if data != "map":
            with suppress(BrokenOffError):
                train(folder / f"{data}-broken", data, at_break=break_off)


def run_until_one_dies(folder: Path) -> None:
    """A run of which one process is killed."""
    train(folder, at_break=die_alone)


def run_until_all_die(folder: Path) -> None:
    """A run of which all processes are killed."""
    train(folder, model=with_dropout, at_break=die)


def go_on(folder: Path) -> None:
    """Goes on with every run in the folder."""
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        data = run.name if run.name in DATA else "map"
        model = with_dropout if run.name == "dropout" else helpers.DictClassifier
        keep(folder, run.name, train(run, data, model, resume=True))
