"""Are the methods users override called as by the reference: as often, in the same order, with the same arguments?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler

from tests import helpers
from tests.parity.runner import DICT, GPT2, LIBRARIES, Case, build_trainer

HOOKS = (
    "compute_loss",
    "training_step",
    "prediction_step",
    "evaluation_loop",
    "evaluate",
    "predict",
    "log",
    "create_optimizer",
    "create_scheduler",
    "get_train_dataloader",
    "get_eval_dataloader",
    "get_test_dataloader",
    "get_batch_samples",
    "_prepare_inputs",
    "_get_train_sampler",
    "_get_eval_sampler",
    "_save_checkpoint",
    "_save",
    "save_model",
)
KINDS: tuple[tuple[str, type | tuple[type, ...]], ...] = (
    ("module", nn.Module),
    ("tensor", torch.Tensor),
    ("loader", DataLoader),
    ("random sampler", RandomSampler),
    ("schedule", LambdaLR),
    ("sampler", Sampler),
    ("optimizer", torch.optim.Optimizer),
    ("dataset", Dataset),
    ("mapping", Mapping),
    ("iterator", Iterator),
    ("device", torch.device),
    ("array", np.ndarray),
)


class Call(NamedTuple):
    """One call of a hook: how deep inside other hooks, what it got and what it gave."""

    hook: str
    inside: str
    args: tuple[str, ...]
    kwargs: tuple[tuple[str, str], ...]
    result: str


def kind(value: Any) -> str:
    """The kind of a value, without the library it comes from."""
    for name, types in KINDS:
        if isinstance(value, types):
            return name
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return f"{type(value).__name__}({', '.join(dict.fromkeys(kind(item) for item in value))})"
    return type(value).__name__


def recording_trainer(lib: ModuleType, calls: list[Call]) -> type:
    """A subclass of ``lib.Trainer`` that records every call of a hook."""
    stack: list[str] = []

    def wrap(hook: str) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            inside = stack[-1] if stack else ""
            shape = tuple(map(kind, args)), tuple((key, kind(value)) for key, value in kwargs.items())
            stack.append(hook)
            try:
                result = getattr(super(subclass, self), hook)(*args, **kwargs)
            finally:
                stack.pop()
            calls.append(Call(hook, inside, *shape, kind(result)))
            return result

        return method

    subclass = type("Recording", (lib.Trainer,), {hook: wrap(hook) for hook in HOOKS})
    return subclass


FIELDS = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "save_strategy": "steps",
    "save_steps": 3,
    "num_train_epochs": 1,
}
CASES = {
    "plain": DICT.having(**FIELDS),
    "gpt2": replace(GPT2, compute_metrics=None).having(**FIELDS),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[Call]]]:
    """Calls of train, evaluate and predict, for each case and library."""
    found: dict[str, dict[str, list[Call]]] = {}
    for case_name, case in CASES.items():
        for name in LIBRARIES:
            calls = found.setdefault(case_name, {}).setdefault(name, [])
            with helpers.library(name) as lib:
                folder = tmp_path_factory.mktemp(name)
                trainer = build_trainer(lib, case, folder, recording_trainer(lib, calls))
                trainer.train()
                trainer.evaluate()
                trainer.predict(case.eval_rows())
                trainer.save_model(str(folder / "model"))
    return found


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("case", CASES)
def test_hook_is_called_like_the_reference(case: str, hook: str, recorded: dict[str, Any]) -> None:
    """The same number of calls, from the same hooks, with the same positional and keyword arguments and result."""
    ours, theirs = (
        [call for call in recorded[case][name] if call.hook == hook] for name in ("etude", "transformers")
    )
    assert theirs, "the reference never calls it: the test would show nothing"
    assert sorted(set(ours)) == sorted(set(theirs))
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("case", CASES)
def test_hooks_are_called_in_the_order_of_the_reference(case: str, recorded: dict[str, Any]) -> None:
    """The whole sequence of calls is the same."""
    ours, theirs = (
        [(call.hook, call.inside) for call in recorded[case][name]] for name in ("etude", "transformers")
    )
    assert ours == theirs


@pytest.mark.parametrize("hook", ["__init__", "train", "save_state", *HOOKS])
def test_signature_equals_the_reference(hook: str) -> None:
    """Names, order, defaults and kinds of the parameters are the same; further ones may follow, with a default."""
    signatures = []
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            parameters = inspect.signature(getattr(lib.Trainer, hook)).parameters.values()
            signatures.append([(item.name, item.kind, item.default) for item in parameters])
    theirs, ours = signatures
    assert ours[: len(theirs)] == theirs
    assert all(default is not inspect.Parameter.empty for _, _, default in ours[len(theirs) :])


def make_overriding(lib: ModuleType) -> type:
    """A subclass as third parties write it: hooks that change what happens."""

    class Overriding(lib.Trainer):  # type: ignore[name-defined, misc]
        def compute_loss(
            self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss, outputs = super().compute_loss(
                model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
            )
            loss = 2 * loss
            return (loss, outputs) if return_outputs else loss

        def training_step(
            self, model: nn.Module, inputs: dict, num_items_in_batch: Any = None
        ) -> torch.Tensor:
            inputs = {key: value + 0 for key, value in inputs.items()}
            return super().training_step(model, inputs, num_items_in_batch)

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            self.optimizer = torch.optim.SGD(
                self.model.parameters(), lr=self.args.learning_rate, momentum=0.5
            )
            return self.optimizer

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log({**logs, "own": 1.0}, start_time)

        def get_train_dataloader(self) -> DataLoader:
            return DataLoader(self.train_dataset, batch_size=4, collate_fn=self.data_collator)

        def prediction_step(
            self, model: nn.Module, inputs: dict, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> Any:
            loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
            return loss, logits, None if labels is None else (labels + 1) % helpers.NUM_CLASSES

    return Overriding


@pytest.mark.parametrize("family", [DICT, GPT2], ids=str)
def test_overridden_hooks_have_the_effect_of_the_reference(family: Case, tmp_path: Path) -> None:
    """A subclass that changes loss, step, optimizer, log, loader and prediction trains to the same result."""
    from tests.parity.runner import assert_same_rows, assert_same_weights

    case = replace(family, compute_metrics=None if family is GPT2 else helpers.accuracy)
    case = case.having("overridden", eval_strategy="epoch", gradient_accumulation_steps=2)
    rows, weights = {}, {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = build_trainer(lib, case, tmp_path / name, make_overriding(lib))
            trainer.train()
        rows[name], weights[name] = trainer.state.log_history, helpers.weights_of(trainer.model)
    assert_same_rows(rows["etude"], rows["transformers"])
    assert_same_weights(weights["etude"], weights["transformers"])
