"""The methods that subclasses override are called as the reference calls them, and what they return has its effect."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import etude
from etude.errors import SetupError
from tests import helpers

# Called in a training with evaluations, checkpoints, and the best of them at the end.
CALLED = (
    "_clip_grad_norm",
    "_determine_best_metric",
    "_evaluate",
    "_finalize_training",
    "_get_dataloader",
    "_get_eval_sampler",
    "_get_grad_norm",
    "_get_learning_rate",
    "_get_num_items_in_batch",
    "_get_output_dir",
    "_get_train_sampler",
    "_inner_training_loop",
    "_load_best_model",
    "_maybe_log_save_evaluate",
    "_move_model_to_device",
    "_prepare_inputs",
    "_save",
    "_save_checkpoint",
    "_save_optimizer_and_scheduler",
    "_save_rng_state",
    "_save_scaler",
    "_track_num_input_tokens",
    "_wrap_model",
    "autocast_smart_context_manager",
    "compute_loss",
    "compute_loss_context_manager",
    "create_accelerator_and_postprocess",
    "create_optimizer",
    "create_scheduler",
    "evaluate",
    "evaluation_loop",
    "floating_point_ops",
    "get_batch_samples",
    "get_decay_parameter_names",
    "get_eval_dataloader",
    "get_total_train_batch_size",
    "get_train_dataloader",
    "log",
    "num_examples",
    "prediction_step",
    "save_model",
    "set_initial_training_values",
    "store_flos",
    "training_step",
)
RESUMED = ("_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_rng_state", "_load_scaler")
# The loop calls these without keywords that have a default; who overrides them is none the wiser.
SHAPES = {
    "_save_checkpoint": (2, ()),
    "save_model": (1, ("_internal_call",)),
    "_load_from_checkpoint": (1, ()),
    "_load_best_model": (0, ()),
    "_load_optimizer_and_scheduler": (1, ()),
    "_load_rng_state": (1, ()),
    "_save_optimizer_and_scheduler": (1, ()),
    "_save_rng_state": (1, ()),
    "_get_eval_sampler": (1, ()),
    "_get_train_sampler": (1, ()),
    "create_optimizer": (0, ()),
    "create_scheduler": (0, ("num_training_steps",)),
    "training_step": (3, ()),
    "get_batch_samples": (3, ()),
    "_clip_grad_norm": (1, ()),
    "_get_grad_norm": (1, ("grad_norm",)),
    "_get_learning_rate": (0, ()),
    "_maybe_log_save_evaluate": (7, ("learning_rate",)),
    "_get_dataloader": (0, ("batch_size", "dataset", "description", "is_training", "sampler_fn")),
}


class Recorded(dict[str, set[tuple[int, tuple[str, ...]]]]):
    """Shapes of the calls by method: number of positional arguments, names of the others."""

    def wrapped(self, base: type, name: str) -> Any:
        def method(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            self.setdefault(name, set()).add((len(args), tuple(sorted(kwargs))))
            return getattr(super(trainer.recording, trainer), name)(*args, **kwargs)

        return method


def recording_trainer(library: ModuleType, folder: Path, calls: Recorded, **arguments: Any) -> Any:
    methods = {name: calls.wrapped(library.Trainer, name) for name in (*CALLED, *RESUMED)}
    cls = type("Recording", (library.Trainer,), methods)
    cls.recording = cls
    torch.manual_seed(3)
    options = {
        "max_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "gradient_accumulation_steps": 2,
        **arguments,
    }
    return cls(
        helpers.gpt2_model(),
        helpers.training_arguments(library, folder, **options),
        data_collator=helpers.pad_texts,
        train_dataset=helpers.sequence_rows(16),
        eval_dataset=helpers.sequence_rows(8),
    )


def calls_of(name: str, folder: Path) -> Recorded:
    calls = Recorded()
    with helpers.library(name) as library:
        recording_trainer(library, folder, calls).train()
        resumed = recording_trainer(library, folder, calls, max_steps=3)
        resumed.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    return calls


def test_every_hook_is_called_as_the_reference_calls_it(tmp_path: Path) -> None:
    ours = calls_of("etude", tmp_path / "etude")
    theirs = calls_of("transformers", tmp_path / "transformers")
    assert set(ours) == set(theirs) == {*CALLED, *RESUMED}
    for name, shape in SHAPES.items():
        assert shape in ours[name], name
        assert shape in theirs[name], name


def trainer_of(cls: type, folder: Path, **arguments: Any) -> Any:
    return cls(
        helpers.DictClassifier(),
        helpers.training_arguments(etude, folder, **{"max_steps": 2, **arguments}),
        train_dataset=helpers.feature_rows(16),
        eval_dataset=helpers.feature_rows(8),
    )


def test_what_the_hooks_return_is_used(tmp_path: Path) -> None:
    class Changed(etude.Trainer):
        def _get_learning_rate(self) -> float:
            return 0.125

        def _clip_grad_norm(self, model: nn.Module) -> None:
            return None

        def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float:
            assert grad_norm is None
            return 7.5

        def _get_output_dir(self, trial: Any = None) -> str:
            return str(tmp_path / "elsewhere")

        def set_initial_training_values(self, args: Any, dataloader: Any) -> tuple[Any, ...]:
            return (*super().set_initial_training_values(args, dataloader)[:-1], 3)

        def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
            assert num_training_steps == 3
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
            self.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)

    trainer = trainer_of(Changed, tmp_path / "out", save_strategy="steps", save_steps=3)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert [(row["grad_norm"], row["learning_rate"]) for row in rows] == [(7.5, 0.125)] * 3
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert (tmp_path / "elsewhere" / "checkpoint-3").is_dir()


def test_a_body_written_for_the_reference_logs_and_saves(tmp_path: Path) -> None:
    """As in trl's OnlineDPOTrainer, which carries its own copy of the method."""

    class Own(etude.Trainer):
        def _maybe_log_save_evaluate(
            self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, epoch: Any, *rest: Any, **more: Any
        ) -> None:
            if self.control.should_log and self.state.global_step > self._globalstep_last_logged:
                loss = tr_loss.item()
                tr_loss -= tr_loss
                self._total_loss_scalar += loss
                steps = self.state.global_step - self._globalstep_last_logged
                self._globalstep_last_logged = self.state.global_step
                self.log({"loss": loss / steps, "mine": 1.0})
            if self.control.should_save:
                self._save_checkpoint(model, trial)

    plain = trainer_of(etude.Trainer, tmp_path / "plain", max_steps=4, logging_steps=2)
    torch.manual_seed(0)
    own = trainer_of(Own, tmp_path / "own", max_steps=4, logging_steps=2, save_strategy="steps", save_steps=4)
    own.model.load_state_dict(plain.model.state_dict())
    expected, result = plain.train(), own.train()
    losses = [row["loss"] for row in plain.state.log_history if "loss" in row]
    assert [row["loss"] for row in own.state.log_history if "mine" in row] == losses
    assert result.training_loss == pytest.approx(expected.training_loss)
    assert (tmp_path / "own" / "checkpoint-4").is_dir()


def test_an_override_that_nothing_calls_is_refused(tmp_path: Path) -> None:
    class Deaf(etude.Trainer):
        def _run_epoch(self, **kwargs: Any) -> None:
            raise AssertionError("never called")

    with pytest.raises(SetupError, match=r"Deaf._run_epoch.*would never be called.*training_step"):
        trainer_of(Deaf, tmp_path)


@pytest.mark.parametrize(
    "name", ["_nested_gather", "_step", "_metrics", "_logs", "_name", "loss", "beta", "tools"]
)
def test_names_of_subclasses_are_left_alone(name: str, tmp_path: Path) -> None:
    assert not hasattr(trainer_of(etude.Trainer, tmp_path), name)


def test_models_and_data_sets_may_be_exchanged_after_construction(tmp_path: Path) -> None:
    trainer = trainer_of(etude.Trainer, tmp_path, max_steps=1)
    trainer.model = other = helpers.DictClassifier()
    before = helpers.weights_of(other)
    trainer.train_dataset = helpers.feature_rows(4, seed=9)
    trainer.args.max_steps = 3
    trainer.train()
    assert trainer.state.global_step == 3
    assert trainer.model_wrapped is other
    assert helpers.relative_difference(helpers.weights_of(other), before) > 0
