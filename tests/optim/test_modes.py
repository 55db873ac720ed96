"""Does the model have the trained weights while it trains, and those to be used everywhere else?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import etude
from tests import helpers

RUN = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 2}


class TwoModes(torch.optim.SGD):
    """Adds 100 to all weights while it is in evaluation mode, and refuses to step there."""

    trains = False

    def _switch(self, trains: bool) -> None:
        if trains != self.trains:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.add_(-100.0 if trains else 100.0)
        self.trains = trains

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.trains = True

    def train(self) -> None:
        self._switch(True)

    def eval(self) -> None:
        self._switch(False)

    def step(self, closure: Any = None) -> Any:
        assert self.trains
        return super().step(closure)


def test_the_modes_are_switched(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []

    class Watching(etude.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            seen.append(("train", self.optimizer.trains))
            return loss

        def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(("eval", self.optimizer.trains))
            return super().prediction_step(*args, **kwargs)

    torch.manual_seed(0)
    rows = helpers.feature_rows(24)
    run = Watching(
        helpers.DictClassifier(), helpers.training_arguments(etude, tmp_path, **RUN, weight_decay=0.0),
        train_dataset=rows, eval_dataset=rows, optimizer_cls_and_kwargs=(TwoModes, {"lr": 1e-4}),
    )  # fmt: skip
    run.train()
    assert {("train", True), ("eval", False)} == set(seen)
    assert not run.optimizer.trains
    for folder in ("checkpoint-3", "checkpoint-6"):  # without an evaluation just before, and with one
        weights = load_file(tmp_path / folder / "model.safetensors")
        assert all(float(weight.mean()) > 50 for weight in weights.values())
    assert all(float(weight.mean()) > 50 for weight in run.model.state_dict().values())
    run.train()


@pytest.mark.parametrize("name", ["schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd"])
def test_the_package_trains_as_under_the_reference(name: str, tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    rows = []
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            run = schedule_free(lib, tmp_path / library, name)
            run.train()
            rows.append(helpers.without_timing(run.state.log_history))
    for theirs, ours in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("step", [3, 4])
def test_a_resumed_run_of_the_package_is_the_same(step: int, tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    whole = schedule_free(etude, tmp_path, "schedule_free_adamw", save_steps=1)
    whole.train()
    again = schedule_free(etude, tmp_path, "schedule_free_adamw", save_steps=1)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    helpers.assert_identical(again.model.state_dict(), whole.model.state_dict())


def schedule_free(lib: Any, folder: Path, name: str, **fields: Any) -> Any:
    torch.manual_seed(0)
    args = helpers.training_arguments(
        lib,
        folder,
        optim=name,
        lr_scheduler_type="constant",
        warmup_steps=2,
        weight_decay=0.1,
        **{**RUN, **fields},
    )
    rows = helpers.feature_rows(24)
    return lib.Trainer(helpers.DictClassifier(), args, train_dataset=rows, eval_dataset=rows)
