"""Do callbacks see the same sequence of events, with the same step, epoch, flags and keyword arguments?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch.utils.data import IterableDataset

from tests import helpers
from tests.parity.runner import DICT, LIBRARIES, Case, build_trainer

EVENTS = (
    "on_init_end",
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_step_begin",
    "on_pre_optimizer_step",
    "on_optimizer_step",
    "on_substep_end",
    "on_step_end",
    "on_evaluate",
    "on_predict",
    "on_save",
    "on_log",
    "on_prediction_step",
    "on_push_begin",
)
FLAGS = ("should_training_stop", "should_epoch_stop", "should_save", "should_evaluate", "should_log")


class Stream(IterableDataset):
    """A finite stream of 24 rows without a length."""

    def __iter__(self) -> Any:
        yield from helpers.feature_rows(24).rows


def make_recorder(lib: ModuleType, seen: list[tuple[Any, ...]]) -> Any:
    """A callback of ``lib`` that writes every event into ``seen``."""

    def hook(event: str) -> Callable[..., None]:
        def record(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            flags = tuple(flag for flag in FLAGS if getattr(control, flag))
            present = tuple(sorted(name for name, value in kwargs.items() if value is not None))
            seen.append(
                (event, state.global_step, round(state.epoch or 0.0, 9), flags, sorted(kwargs), present)
            )

        return record

    return type("Recorder", (lib.TrainerCallback,), {event: hook(event) for event in EVENTS})()


def make_steering(lib: ModuleType, event: str, step: int, flag: str) -> Any:
    """A callback of ``lib`` that raises a control flag at one event of one step."""

    def steer(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step == step:
            setattr(control, flag, True)
        return control

    return type("Steering", (lib.TrainerCallback,), {event: steer})()


def train_only(trainer: Any, case: Case) -> None:
    """Train."""
    trainer.train()


def everything(trainer: Any, case: Case) -> None:
    """Evaluate, train, evaluate again and predict."""
    trainer.evaluate()
    trainer.train()
    trainer.evaluate(case.eval_rows(), metric_key_prefix="other")
    trainer.predict(case.eval_rows())


def train_twice(trainer: Any, case: Case) -> None:
    """Train, and train again with the same trainer."""
    trainer.train()
    trainer.train()


def record(
    case: Case,
    output_dir: Path,
    script: Callable[[Any, Case], None] = train_only,
    steering: tuple[str, int, str] | None = None,
    extra: Callable[[ModuleType], list[Any]] = lambda lib: [],
) -> dict[str, list[tuple[Any, ...]]]:
    """The events of ``case`` under both libraries."""
    seen: dict[str, list[tuple[Any, ...]]] = {name: [] for name in LIBRARIES}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            callbacks = [make_recorder(lib, seen[name]), *extra(lib)]
            if steering is not None:
                callbacks.append(make_steering(lib, *steering))
            trainer = build_trainer(lib, case, output_dir / name, callbacks=callbacks)
            script(trainer, case)
    return seen


def assert_same_events(seen: dict[str, list[tuple[Any, ...]]]) -> None:
    """The order first, for a readable message, then flags and keyword arguments."""
    ours, theirs = seen["etude"], seen["transformers"]
    assert [event[:3] for event in ours] == [event[:3] for event in theirs]
    assert [(event[0], event[1], event[3]) for event in ours] == [
        (event[0], event[1], event[3]) for event in theirs
    ]
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine[4:] == reference[4:], f"keyword arguments of {reference[:3]}"


QUIET = replace(DICT, arguments={"logging_steps": 500})  # no event but those of the loop
TWENTY = replace(QUIET, train_rows=lambda: helpers.feature_rows(20))  # 5 batches an epoch
WINDOWS = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}  # 10 micro-batches: 4, 4, 2
SCHEDULES: dict[str, Case] = {
    "nothing": QUIET,
    "logging-steps": QUIET.having(logging_steps=3),
    "logging-ratio": QUIET.having(logging_steps=0.25),
    "logging-first": QUIET.having(logging_steps=4, logging_first_step=True),
    "logging-epoch": QUIET.having(logging_strategy="epoch"),
    "eval-steps": QUIET.having(eval_strategy="steps", eval_steps=5),
    "eval-epoch": QUIET.having(eval_strategy="epoch"),
    "eval-start": QUIET.having(eval_on_start=True, eval_strategy="epoch"),
    "eval-delay": QUIET.having(eval_strategy="steps", eval_steps=2, eval_delay=5),
    "save-steps": QUIET.having(save_strategy="steps", save_steps=5),
    "save-epoch": QUIET.having(save_strategy="epoch"),
    "mixture": QUIET.having(
        logging_steps=3, eval_strategy="steps", eval_steps=5, save_strategy="steps", save_steps=5
    ),
    "mixture-epoch": TWENTY.having(
        **WINDOWS,
        logging_steps=2,
        eval_strategy="epoch",
        save_strategy="steps",
        save_steps=3,
        num_train_epochs=3,
    ),
    "remainder": TWENTY.having(**WINDOWS, logging_steps=1),
    "window-longer-than-epoch": TWENTY.having(gradient_accumulation_steps=8, logging_steps=1),
    "max-steps": TWENTY.having(
        max_steps=8, eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3
    ),
    "fraction-of-epoch": TWENTY.having(num_train_epochs=1.5, logging_strategy="epoch"),
    "best": QUIET.having(
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="best",
        metric_for_best_model="accuracy",
        load_best_model_at_end=True,
    ),
    "stream": replace(QUIET, train_rows=Stream).having(max_steps=8, logging_steps=2, **WINDOWS),
    "exhausted-stream": replace(QUIET, train_rows=Stream).having(max_steps=7, logging_steps=1),
    "drop-last": replace(QUIET, train_rows=lambda: helpers.feature_rows(22)).having(
        dataloader_drop_last=True
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in SCHEDULES.items()])
def test_events_equal_the_reference(case: Case, tmp_path: Path) -> None:
    """All sixteen events come in the same order at the same step and epoch, with the same flags."""
    assert_same_events(record(case, tmp_path))


@pytest.mark.parametrize("script", [everything, train_twice])
def test_events_of_several_calls_equal_the_reference(script: Callable[..., None], tmp_path: Path) -> None:
    """Evaluating before and after training, predicting and training again fire the same events."""
    assert_same_events(record(QUIET.having(eval_strategy="epoch", num_train_epochs=1), tmp_path, script))


def test_events_of_several_evaluation_sets_equal_the_reference(tmp_path: Path) -> None:
    """A dictionary of evaluation sets fires one evaluation a set."""
    sets = {"first": helpers.feature_rows(9), "second": helpers.feature_rows(12)}
    case = replace(QUIET, eval_rows=lambda: sets).having(eval_strategy="epoch", num_train_epochs=1)
    assert_same_events(record(case, tmp_path))


STEERED = [(event, flag) for event in ("on_step_end", "on_epoch_end") for flag in FLAGS]
# In the middle of an update the stopping flags differ on purpose: see test_known_differences.
IN_UPDATE = [
    (event, flag) for event in ("on_step_begin", "on_substep_end") for flag in FLAGS if "stop" not in flag
]


@pytest.mark.parametrize(
    ("event", "flag"), [*STEERED, *[pytest.param(*pair, marks=pytest.mark.slow) for pair in IN_UPDATE]]
)
def test_steering_equals_the_reference(event: str, flag: str, tmp_path: Path) -> None:
    """A flag that a user's callback raises has the same effect, once."""
    case = TWENTY.having(**WINDOWS)
    step = 3 if event == "on_epoch_end" else 2
    assert_same_events(record(case, tmp_path, steering=(event, step, flag)))


def test_early_stopping_equals_the_reference(tmp_path: Path) -> None:
    """Training stops after the same evaluation."""
    case = QUIET.having(
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        num_train_epochs=6,
        learning_rate=0.3,
        load_best_model_at_end=True,
    )
    seen = record(case, tmp_path, extra=lambda lib: [lib.EarlyStoppingCallback(early_stopping_patience=2)])
    assert_same_events(seen)
    assert max(event[1] for event in seen["transformers"]) < 36, "the case is meant to stop early"
