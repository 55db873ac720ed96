"""What the Trainer does with one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import etude
from tests import helpers


class Wrapper(nn.Module):
    """What a strategy may put around a model: a module with a mode of its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs: Any) -> Any:
        return self.module(**inputs)


def test_training_goes_on_in_training_mode_after_an_evaluation_under_a_wrapper(tmp_path: Path) -> None:
    """Evaluation runs the bare model, so the wrapper's own flag does not tell that the mode has changed."""
    rows = helpers.feature_rows(8)
    trainer = etude.Trainer(
        helpers.DictClassifier(dropout=0.5),
        helpers.training_arguments(etude, tmp_path),
        train_dataset=rows,
        eval_dataset=rows,
    )
    wrapped = Wrapper(trainer.model)
    trainer.evaluate()
    assert wrapped.training
    assert not trainer.model.training
    trainer.training_step(wrapped, next(iter(trainer.get_train_dataloader())))
    assert all(module.training for module in wrapped.modules())


def test_the_mode_is_not_walked_again_while_it_does_not_change(tmp_path: Path) -> None:
    """A submodule that a callback has put into evaluation mode stays there."""

    class Freeze(etude.TrainerCallback):
        def on_train_begin(
            self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
        ) -> None:
            model.body[3].eval()

    trainer = etude.Trainer(
        helpers.DictClassifier(dropout=0.5),
        helpers.training_arguments(etude, tmp_path, max_steps=2),
        train_dataset=helpers.feature_rows(8),
        callbacks=[Freeze()],
    )
    trainer.train()
    assert trainer.model.training
    assert isinstance(trainer.model.body[3], nn.Dropout)
    assert not trainer.model.body[3].training


def test_a_training_begins_with_every_submodule_in_training_mode(tmp_path: Path) -> None:
    """transformers loads models in evaluation mode, also inside of a module that says that it trains."""
    trainer = etude.Trainer(
        helpers.DictClassifier(dropout=0.5),
        helpers.training_arguments(etude, tmp_path, max_steps=1),
        train_dataset=helpers.feature_rows(8),
    )
    trainer.model.body.eval()
    assert trainer.model.training
    trainer.train()
    assert all(module.training for module in trainer.model.modules())


def test_a_step_outside_of_a_training_is_that_of_the_batch_alone(tmp_path: Path) -> None:
    model = helpers.DictClassifier(dropout=0.0)
    trainer = etude.Trainer(
        model, helpers.training_arguments(etude, tmp_path), train_dataset=helpers.feature_rows(8)
    )
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.training_step(model, batch)
    torch.testing.assert_close(loss, model(**batch)["loss"].detach())
    assert all(parameter.grad is not None for parameter in model.parameters())
