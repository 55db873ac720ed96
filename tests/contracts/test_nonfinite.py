"""A loss or gradient that is not finite: is it found before the weights move, and said where it comes from?"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import SequentialSampler

from tests import helpers

BAD_ROW = 13
MICRO_BATCH = 2
BAD_STEP = 3  # rows are read in order, 3 micro-batches of 2 an update: rows 12 to 17 are the third update's
SAMPLES_OF_BAD_STEP = list(range(12, 18))


class PoisonedGradient(torch.autograd.Function):
    """The identity, with a gradient that is NaN wherever the mask says so."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The value itself."""
        ctx.save_for_backward(mask)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """NaN under the mask."""
        (mask,) = ctx.saved_tensors
        return gradient.masked_fill(mask, math.nan), None


class Fragile(helpers.DictClassifier):
    """A classifier that breaks, in one of three ways, at rows that are marked with a large first feature."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Scores and a mean loss."""
        marked = features[:, 0] > 100
        scores = self.head(self.body(features.clamp(-3, 3)))
        if self.way == "nan-gradient":
            scores = PoisonedGradient.apply(scores, marked[:, None].expand_as(scores))
        losses = nn.functional.cross_entropy(scores, labels, reduction="none")
        if self.way == "nan-loss":
            losses = losses * torch.where(marked, math.nan, 1.0)
        loss = losses.mean()
        if self.way == "inf-loss" and marked.any():
            loss = loss + math.inf  # a constant: the gradient stays finite
        return {"loss": loss, "logits": scores}


WAYS = {"nan-loss": "nan", "inf-loss": "inf", "nan-gradient": "nan"}
CUTS = [(MICRO_BATCH, 3), (6, 1)]


def marked_rows(bad_row: int = BAD_ROW) -> helpers.Rows:
    """30 rows, one of them bad."""
    rows = helpers.feature_rows(30, seed=4)
    features = rows.rows[bad_row]["features"].clone()
    features[0] = 1000.0
    rows.rows[bad_row]["features"] = features
    return rows


class Watch:
    """Weights at the beginning and the end of every step."""

    def __init__(self) -> None:
        self.begun: dict[int, dict[str, torch.Tensor]] = {}
        self.ended: dict[int, dict[str, torch.Tensor]] = {}

    def callback(self, lib: Any) -> Any:
        """The callback that looks; steps count from 1."""
        watch = self

        class Look(lib.TrainerCallback):  # type: ignore[name-defined, misc]
            def on_step_begin(
                self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any
            ) -> None:
                """Before the step that comes."""
                watch.begun[state.global_step + 1] = helpers.weights_of(model)

            def on_step_end(
                self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any
            ) -> None:
                """After the step that was."""
                watch.ended[state.global_step] = helpers.weights_of(model)

        return Look()


def build(way: str, cut: tuple[int, int], folder: Path, **fields: Any) -> tuple[Any, Watch]:
    """A trainer that reads its rows in order and meets the bad one in its third step."""
    watch = Watch()
    with helpers.library("etude") as lib:

        class InOrder(lib.Trainer):  # type: ignore[name-defined, misc]
            def _get_train_sampler(self, train_dataset: Any = None) -> Any:
                """In order."""
                return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

        torch.manual_seed(2)
        arguments = {
            "per_device_train_batch_size": cut[0],
            "gradient_accumulation_steps": cut[1],
            "num_train_epochs": 1,
            "lr_scheduler_type": "constant",
            **fields,
        }
        trainer = InOrder(
            model=Fragile(way),
            args=helpers.training_arguments(lib, folder, **arguments),
            train_dataset=marked_rows(),
            callbacks=[watch.callback(lib)],
        )
    return trainer, watch


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_raise_stops_before_the_weights_move(
    way: str, cut: tuple[int, int], clip: float, tmp_path: Path
) -> None:
    """The default: an error that says step, value and samples, and weights as they were."""
    trainer, watch = build(way, cut, tmp_path, max_grad_norm=clip)
    from etude.errors import NonFiniteError

    with pytest.raises(NonFiniteError) as caught:
        trainer.train()
    message = str(caught.value)
    assert re.search(rf"step {BAD_STEP}\b", message)
    assert WAYS[way] in message
    assert set(SAMPLES_OF_BAD_STEP) <= set(map(int, re.findall(r"\d+", message)))
    assert caught.value.step == BAD_STEP
    assert caught.value.samples == SAMPLES_OF_BAD_STEP
    assert math.isfinite(caught.value.loss) == (way == "nan-gradient")
    assert isinstance(caught.value, RuntimeError)
    helpers.assert_identical(helpers.weights_of(trainer.model), watch.begun[BAD_STEP])


@pytest.mark.parametrize("way", WAYS)
def test_raise_names_shuffled_samples(way: str, tmp_path: Path) -> None:
    """In random order the bad row is among the samples that the error names, which are those of one global batch."""
    torch.manual_seed(2)
    with helpers.library("etude") as lib:
        arguments = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
        trainer = lib.Trainer(
            model=Fragile(way),
            args=helpers.training_arguments(lib, tmp_path, **arguments),
            train_dataset=marked_rows(),
        )
        with pytest.raises(RuntimeError) as caught:
            trainer.train()
    error: Any = caught.value
    assert BAD_ROW in error.samples
    order = torch.randperm(30, generator=torch.Generator().manual_seed(7)).tolist()
    assert sorted(error.samples) == sorted(order[6 * (error.step - 1) : 6 * error.step])


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_skip_leaves_the_step_out(
    way: str, cut: tuple[int, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights stand still at that step, training goes on to the end, and one line says so."""
    trainer, watch = build(way, cut, tmp_path, on_nonfinite="skip")
    with caplog.at_level(logging.WARNING):
        output = trainer.train()
    assert output.global_step == 5
    helpers.assert_identical(watch.ended[BAD_STEP], watch.begun[BAD_STEP])
    for step in (1, 2, 4, 5):
        assert any(
            not torch.equal(watch.ended[step][name], watch.begun[step][name]) for name in watch.begun[step]
        )
    assert all(value.isfinite().all() for value in helpers.weights_of(trainer.model).values())
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in lines if re.search(rf"step {BAD_STEP}\b", line, re.IGNORECASE)]) == 1


def test_skipped_step_leaves_the_optimizer_alone(tmp_path: Path) -> None:
    """Momentum and step counts are as if the bad global batch were not in the data."""
    trainer, watch = build("nan-loss", CUTS[0], tmp_path, on_nonfinite="skip")
    trainer.train()
    clean, clean_watch = build("nan-loss", CUTS[0], tmp_path)
    clean.train_dataset.rows = [
        row for i, row in enumerate(clean.train_dataset.rows) if i not in SAMPLES_OF_BAD_STEP
    ]
    clean.train()
    helpers.assert_identical(watch.ended[5], clean_watch.ended[4])


def test_first_step_can_be_skipped(tmp_path: Path) -> None:
    """A schedule that moves before the optimizer ever did is no reason for a warning, which is an error here."""
    trainer, watch = build("nan-loss", CUTS[0], tmp_path, on_nonfinite="skip")
    trainer.train_dataset = marked_rows(bad_row=1)
    assert trainer.train().global_step == 5
    helpers.assert_identical(watch.ended[1], watch.begun[1])


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize(("way", "value"), [("nan-loss", math.nan), ("inf-loss", math.inf)])
def test_log_shows_the_true_value(way: str, value: float, cut: tuple[int, int], tmp_path: Path) -> None:
    """Training goes on regardless, and the row of that step has the loss that there was."""
    trainer, _ = build(way, cut, tmp_path, on_nonfinite="log")
    trainer.train()
    losses = {row["step"]: row["loss"] for row in trainer.state.log_history if "loss" in row}
    assert losses[BAD_STEP] == pytest.approx(value, nan_ok=True)
    assert all(math.isfinite(losses[step]) for step in (1, 2))
    assert losses.keys() == {1, 2, 3, 4, 5}
    if way == "inf-loss":  # its gradient is finite, and so is all that follows
        assert math.isfinite(losses[4])


def test_log_applies_what_the_optimizer_gets(tmp_path: Path) -> None:
    """``log`` protects nothing: a NaN gradient reaches the weights, as in plain PyTorch."""
    trainer, _ = build("nan-gradient", CUTS[0], tmp_path, on_nonfinite="log", max_grad_norm=0.0)
    trainer.train()
    assert any(value.isnan().any() for value in helpers.weights_of(trainer.model).values())


def test_one_line_tells_of_an_unknown_policy(tmp_path: Path) -> None:
    """A misspelt policy is an error."""
    with helpers.library("etude") as lib, pytest.raises(ValueError, match="on_nonfinite"):
        helpers.training_arguments(lib, tmp_path, on_nonfinite="ignore")
