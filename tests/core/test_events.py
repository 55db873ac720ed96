"""Who hears an event, with what, and what comes of it?"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest
import transformers

from etude import TrainerCallback, TrainerControl, TrainerState
from etude.core.events import EVENTS, CallbackHandler, listens

PARTS = ("model", "processing_class", "optimizer", "lr_scheduler", "train_dataloader", "eval_dataloader")


class Recorder(TrainerCallback):
    """Keeps what on_step_end and on_log are given."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.heard.append(("on_step_end", kwargs))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.heard.append(("on_log", kwargs))


class ReferenceRecorder(transformers.TrainerCallback):
    """Written for the reference: it inherits from its base class."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps += 1


def handler_of(*callbacks: Any) -> CallbackHandler:
    return CallbackHandler(list(callbacks), "model", "tokenizer", "optimizer", "schedule")


def fire(handler: CallbackHandler, event: str, **extra: Any) -> Any:
    return getattr(handler, event)("args", TrainerState(), TrainerControl(), **extra)


def test_events_are_those_of_the_reference() -> None:
    theirs = {name for name in vars(transformers.TrainerCallback) if name.startswith("on_")}
    assert set(EVENTS) == theirs
    assert {name for name in vars(TrainerCallback) if name.startswith("on_")} == theirs


def test_only_listeners_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("an empty method was called")

    handler = handler_of(Recorder(), ReferenceRecorder())
    for event in set(EVENTS) - {"on_step_end", "on_log"}:
        fire(handler, event)  # the table of listeners is made here
        monkeypatch.setattr(TrainerCallback, event, explode)
        monkeypatch.setattr(transformers.TrainerCallback, event, explode)
        fire(handler, event)


@pytest.mark.parametrize("callback", [TrainerCallback(), transformers.TrainerCallback(), object()])
def test_an_empty_callback_listens_to_nothing(callback: Any) -> None:
    assert [event for event in EVENTS if listens(callback, event)] == []


@pytest.mark.parametrize("callback", [Recorder(), type("Child", (Recorder,), {})()])
def test_what_is_defined_or_inherited_from_a_user_is_heard(callback: Any) -> None:
    assert [event for event in EVENTS if listens(callback, event)] == ["on_step_end", "on_log"]


def test_callbacks_of_the_reference_hear_what_they_define() -> None:
    callback = ReferenceRecorder()
    handler = handler_of(callback)
    for event in EVENTS:
        fire(handler, event)
    assert callback.steps == 1


def test_the_references_own_callbacks_hear_what_they_define() -> None:
    assert [e for e in EVENTS if listens(transformers.EarlyStoppingCallback(), e)] == [
        "on_train_begin",
        "on_evaluate",
    ]


def test_listeners_get_all_parts_and_the_logs() -> None:
    recorder = Recorder()
    handler = handler_of(recorder)
    handler.train_dataloader, handler.eval_dataloader = "train", "eval"
    handler.on_log("args", TrainerState(), TrainerControl(), {"loss": 1.0})
    ((event, given),) = recorder.heard
    assert event == "on_log"
    assert tuple(given) == (*PARTS, "logs")
    assert list(given.values()) == [
        "model",
        "tokenizer",
        "optimizer",
        "schedule",
        "train",
        "eval",
        {"loss": 1.0},
    ]


@pytest.mark.parametrize("event", ["on_evaluate", "on_predict"])
def test_metrics_are_handed_on(event: str) -> None:
    seen: list[Any] = []
    callback = type(
        "Listener", (TrainerCallback,), {event: lambda self, *a, metrics, **k: seen.append(metrics)}
    )
    fire(handler_of(callback), event, metrics={"eval_loss": 2.0})
    assert seen == [{"eval_loss": 2.0}]


@pytest.mark.parametrize(
    ("event", "cleared"),
    [
        ("on_train_begin", {"should_training_stop"}),
        ("on_epoch_begin", {"should_epoch_stop"}),
        ("on_step_begin", {"should_log", "should_evaluate", "should_save"}),
        ("on_log", {"should_log"}),
        ("on_evaluate", {"should_evaluate"}),
        ("on_save", {"should_save"}),
        ("on_step_end", set()),
        ("on_epoch_end", set()),
    ],
)
def test_events_clear_the_flags_that_the_reference_clears(event: str, cleared: set[str]) -> None:
    from transformers.trainer_callback import CallbackHandler as TheirHandler

    for handler, control_class in (
        (handler_of(Recorder), TrainerControl),
        (TheirHandler([], *"mpos"), transformers.TrainerControl),
    ):
        control = control_class(True, True, True, True, True)
        extra = {"on_log": [{}], "on_evaluate": [{}]}.get(event, [])
        getattr(handler, event)("args", TrainerState(), control, *extra)
        assert {name for name, flag in vars(control).items() if not flag} == cleared


def test_a_handler_without_callbacks_has_no_one_to_call() -> None:
    assert fire(handler_of(), "on_step_end") == TrainerControl()


def test_a_returned_control_replaces_the_one_before() -> None:
    other = TrainerControl(should_save=True)

    class Replacing(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> TrainerControl:
            return other

    seen: list[Any] = []

    class Seeing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(control)

    assert fire(handler_of(Replacing, Seeing), "on_step_end") is other
    assert seen == [other]


def test_the_list_of_callbacks_may_be_edited_directly() -> None:
    first, second = Recorder(), Recorder()
    handler = handler_of(first)
    fire(handler, "on_step_end")
    handler.callbacks[0] = second
    fire(handler, "on_step_end")
    assert (len(first.heard), len(second.heard)) == (1, 1)


@dataclass
class Comparable(TrainerCallback):
    """Two of them are equal where their contents are."""

    limit: int = 3
    heard: int = field(default=0, compare=False)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.heard += 1


def test_an_equal_callback_in_place_of_another_is_heard() -> None:
    first, second = Comparable(), Comparable()
    handler = handler_of(first)
    fire(handler, "on_step_end")
    handler.callbacks[0] = second
    fire(handler, "on_step_end")
    assert (first.heard, second.heard) == (1, 1)


def test_callbacks_are_added_as_class_or_instance_and_found_by_both() -> None:
    handler = handler_of(Recorder)
    (made,) = handler.callbacks
    assert handler.pop_callback(TrainerCallback) is None
    assert handler.pop_callback(Recorder) is made
    handler.add_callback(made)
    handler.remove_callback(made)
    assert handler.callbacks == []


def test_a_second_one_of_a_class_is_added_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        handler = handler_of(Recorder, ReferenceRecorder, Recorder)
    assert handler.callback_list == "Recorder\nReferenceRecorder\nRecorder"
    assert [record.getMessage().count("Recorder") for record in caplog.records] == [4]


@pytest.mark.parametrize(("same", "may_differ"), [(True, False), (False, True)])
def test_processes_need_not_agree_where_all_callbacks_say_so(same: bool, may_differ: bool) -> None:
    from etude import DefaultFlowCallback

    class Own(TrainerCallback):
        same_on_all_processes = same

    assert handler_of(DefaultFlowCallback, Own).may_differ_between_processes() is may_differ
    assert handler_of(DefaultFlowCallback, ReferenceRecorder).may_differ_between_processes()
