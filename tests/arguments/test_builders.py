"""Do the setters change what they are given, and nothing else?"""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from etude import TrainingArguments
from etude.core.names import IntervalStrategy, OptimizerNames, SaveStrategy, SchedulerType
from etude.errors import ConfigurationError
from tests import helpers

SETTERS = [name for name in dir(TrainingArguments) if name.startswith("set_")]
# every parameter of each setter, at a value that is not the default
EVERYTHING: dict[str, dict[str, Any]] = {
    "set_training": {
        "learning_rate": 0.1, "batch_size": 3, "weight_decay": 0.2, "num_epochs": 2, "max_steps": 7,
        "gradient_accumulation_steps": 4, "seed": 5, "activation_checkpointing": True,
    },
    "set_evaluate": {
        "strategy": "steps", "steps": 7, "batch_size": 3, "accumulation_steps": 2, "delay": 1.5, "loss_only": True,
    },
    "set_testing": {"batch_size": 3, "loss_only": True},
    "set_save": {"strategy": "epoch", "steps": 7, "total_limit": 2},
    "set_logging": {
        "strategy": "epoch", "steps": 7, "level": "info", "first_step": True, "nan_inf_filter": True,
        "on_each_node": True, "replica_level": "error",
    },
    "set_optimizer": {
        "name": "sgd", "learning_rate": 0.1, "weight_decay": 0.2, "beta1": 0.3, "beta2": 0.4, "epsilon": 0.5,
        "args": "momentum=0.9",
    },
    "set_lr_scheduler": {"name": "cosine", "num_epochs": 2.5, "max_steps": 9, "warmup_steps": 0.1},
    "set_dataloader": {
        "train_batch_size": 3, "eval_batch_size": 5, "drop_last": True, "num_workers": 1, "pin_memory": False,
        "persistent_workers": True, "prefetch_factor": 3, "multiprocessing_context": "spawn", "in_order": False,
        "auto_find_batch_size": True, "ignore_data_skip": True, "sampler_seed": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SETTERS)
def test_parameters_and_defaults_are_those_of_the_reference(name: str) -> None:
    signatures = []
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            parameters = inspect.signature(getattr(lib.TrainingArguments, name)).parameters
        signatures.append({key: parameter.default for key, parameter in parameters.items()})
    assert signatures[0] == signatures[1]
    assert list(signatures[0]) == list(signatures[1])


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_is_given_is_set_as_in_the_reference(name: str) -> None:
    found = []
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            args = lib.TrainingArguments("x", use_cpu=True, disable_tqdm=True)
            assert getattr(args, name)(**EVERYTHING[name]) is args
            found.append({key: value for key, value in args.to_dict().items() if key != "accelerator_config"})
    theirs, ours = found
    # the reference masks tokens that are not there, and set_logging leaves "none" behind as a tracker
    left_out = {"restore_callback_states_from_checkpoint", "hub_token", "report_to"}
    assert {key: theirs[key] for key in theirs if key not in left_out} == {
        key: ours[key] for key in theirs if key not in left_out and key in ours
    }


@pytest.mark.parametrize("name", sorted({*SETTERS} - {"set_push_to_hub"}))
def test_what_is_not_given_is_left_alone(name: str) -> None:
    given: dict[str, Any] = {
        "learning_rate": 0.5, "per_device_train_batch_size": 2, "per_device_eval_batch_size": 3, "optim": "sgd",
        "logging_steps": 9, "eval_strategy": "steps", "eval_steps": 4, "eval_delay": 2, "save_steps": 8, "max_steps": 6,
        "log_level_replica": "error", "seed": 1, "data_seed": 2, "do_train": True, "do_predict": True,
        "use_cpu": True,
    }  # fmt: skip
    args = TrainingArguments("x", **given)
    assert getattr(args, name)() == TrainingArguments("x", **given)


def test_names_become_members() -> None:
    args = TrainingArguments("x").set_optimizer("adamw_torch").set_lr_scheduler("cosine")
    args.set_evaluate("epoch").set_save("epoch").set_logging(report_to="none")
    assert (args.optim, args.lr_scheduler_type) == (OptimizerNames.ADAMW_TORCH, SchedulerType.COSINE)
    assert (args.eval_strategy, args.save_strategy) == (IntervalStrategy.EPOCH, SaveStrategy.EPOCH)
    assert args.report_to == []
    assert args.do_eval


def test_flags_for_scripts_are_set() -> None:
    args = TrainingArguments("x").set_training().set_testing()
    assert (args.do_train, args.do_predict) == (True, True)


def test_the_reference_evaluates_every_500_steps_if_nothing_else_is_said() -> None:
    assert TrainingArguments("x", logging_steps=3).set_evaluate("steps").eval_steps == 500
    assert TrainingArguments("x", eval_steps=7).set_evaluate("steps").eval_steps == 7


def test_the_older_name_of_activation_checkpointing_is_taken() -> None:
    with pytest.warns(FutureWarning, match="activation_checkpointing") as caught:
        args = TrainingArguments("x").set_training(gradient_checkpointing=True)
    assert caught[0].filename == __file__
    assert args.activation_checkpointing is args.gradient_checkpointing is True
    assert args.set_training(activation_checkpointing=False).gradient_checkpointing is False


@pytest.mark.parametrize(
    ("name", "given", "culprit"),
    [
        ("set_training", {"learning_rate": -1}, "learning_rate"),
        ("set_training", {"batch_size": 0, "learning_rate": 0.1}, "per_device_train_batch_size"),
        ("set_evaluate", {"strategy": "steps", "steps": 0}, "steps"),
        ("set_save", {"strategy": "steps", "steps": 0}, "steps"),
        ("set_logging", {"strategy": "steps", "steps": 0}, "steps"),
        ("set_save", {"strategy": "sometimes"}, "save_strategy"),
        ("set_optimizer", {"name": "adam"}, "optim"),
        ("set_lr_scheduler", {"name": "greedy"}, "eval_strategy"),
        ("set_dataloader", {"prefetch_factor": 2}, "dataloader_num_workers"),
    ],
)
def test_what_cannot_work_is_refused_and_changes_nothing(
    name: str, given: dict[str, Any], culprit: str
) -> None:
    args = TrainingArguments("x")
    with pytest.raises(ConfigurationError, match=culprit):
        getattr(args, name)(**given)
    assert args == TrainingArguments("x")


def test_saving_follows_evaluation_here_too(caplog: pytest.LogCaptureFixture) -> None:
    args = TrainingArguments(
        "x", load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch"
    ).set_evaluate("steps", steps=30)
    assert (args.save_strategy, args.save_steps) == (SaveStrategy.STEPS, 30)
    assert len(caplog.records) == 1


def test_a_misspelt_argument_is_an_error() -> None:
    with pytest.raises(TypeError, match="batchsize"):
        TrainingArguments("x").set_training(batchsize=3)  # type: ignore[call-arg]
