"""Does a run with each optimizer and each schedule have the reference's losses and learning rates?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import etude
from tests import helpers
from tests.optim.test_schedules import CASES
from tests.parity.runner import DICT, assert_same_rows, assert_same_weights, run_both

STEPS = {"max_steps": 10, "learning_rate": 0.02}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw_torch": {"weight_decay": 0.1, "adam_beta1": 0.8, "adam_epsilon": 1e-6},
    "adamw_torch_fused": {"weight_decay": 0.1},
    "adafactor": {"weight_decay": 0.1},
    "sgd": {"weight_decay": 0.1, "optim_args": "momentum=0.9,nesterov=True"},
    "adagrad": {"optim_args": "lr_decay=0.1,eps=1e-6"},
    "rmsprop": {"weight_decay": 0.1, "optim_args": "momentum=0.5,alpha=0.9,centered=True"},
}
# Optimizers of packages that train on a CPU; a name runs where its package is installed.
LOW_RANK = {"optim_target_modules": "all-linear", "optim_args": "rank=2,update_proj_gap=3"}
PACKAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "adamw_torch_8bit": ("torchao.optim", {"weight_decay": 0.1}),
    "grokadamw": ("grokadamw", {"optim_args": "alpha_init=0.9"}),
    "stable_adamw": ("optimi", {"weight_decay": 0.1}),
    "adamw_8bit": ("bitsandbytes", {"weight_decay": 0.1}),
    "paged_lion_8bit": ("bitsandbytes", {"weight_decay": 0.1}),
    "ademamix": ("bitsandbytes", {"optim_args": "beta3=0.99,t_alpha=5"}),
    "galore_adamw": ("galore_torch", LOW_RANK),
    "galore_adafactor": ("galore_torch", LOW_RANK),
    "apollo_adamw": ("apollo_torch", LOW_RANK),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_train_as_the_references(name: str, tmp_path: Path) -> None:
    compare(tmp_path, optim=name, **OPTIMIZERS[name])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PACKAGES)
def test_optimizers_of_packages_train_as_under_the_reference(name: str, tmp_path: Path) -> None:
    package, fields = PACKAGES[name]
    pytest.importorskip(package)
    compare(tmp_path, optim=name, **fields)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in PACKAGES if not name.startswith("adamw_torch_")])
def test_runs_with_optimizers_of_packages_are_resumed(name: str, tmp_path: Path) -> None:
    package, fields = PACKAGES[name]
    pytest.importorskip(package)
    models = []
    for resume in (None, str(tmp_path / "checkpoint-5")):
        args = helpers.training_arguments(
            etude, tmp_path, **STEPS, optim=name, save_strategy="steps", save_steps=5, **fields
        )
        trainer = etude.Trainer(
            model_init=lambda: helpers.DictClassifier(), args=args, train_dataset=DICT.train_rows()
        )
        trainer.train(resume_from_checkpoint=resume)
        models.append(trainer.model.state_dict())
    helpers.assert_identical(*models)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_schedules_run_as_the_references(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    compare(
        tmp_path, lr_scheduler_type=name, lr_scheduler_kwargs={**options, **small(options)}, warmup_steps=3
    )


def small(options: dict[str, Any]) -> dict[str, Any]:
    """Lowest learning rates below that of these runs."""
    return {key: 1e-3 for key in ("min_lr", "lr_end") if key in options}


def compare(folder: Path, **fields: Any) -> None:
    theirs, ours = run_both(DICT.having(**{**STEPS, **fields}), folder)
    assert_same_rows(ours.log_history, theirs.log_history)
    assert_same_weights(ours.weights, theirs.weights)
