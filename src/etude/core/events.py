"""The events of a run, the callbacks that hear them, and the handler that calls only those that listen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from etude.core.state import TrainerControl, TrainerState
from etude.errors import ConfigurationError

logger = logging.getLogger(__name__)

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


class TrainerCallback:
    """Base of callbacks.

    The whole run, in the order of its events:

        on_init_end                              the Trainer is built
        train():
            on_train_begin
            for each epoch:
                on_epoch_begin
                for each update:
                    on_step_begin
                    for each micro-batch but the last:   forward, backward
                        on_substep_end
                    the last micro-batch:                forward, backward, clip
                    on_pre_optimizer_step                the gradients are final
                    on_optimizer_step                    the weights have moved, the gradients are still there
                    on_step_end                          the step is counted
                    on_log, on_prediction_step, on_evaluate, on_save    where they are due
                on_epoch_end                             and again on_log ... on_save where they are due
            on_log                                       the closing row
            on_train_end
        predict(): on_prediction_step, on_predict

    Every event gets `args`, `state`, `control` and, by keyword, `model`, `processing_class`, `optimizer`,
    `lr_scheduler`, `train_dataloader` and `eval_dataloader`; on_log also `logs`, on_evaluate and on_predict also
    `metrics`. An event may change `control` in place, or return another one.

    Attributes:
        same_on_all_processes: whether all processes of a run get the same flags from this callback anyway. Where every
            callback says so, processes need not agree on the flags after each step.
    """

    same_on_all_processes = False

    def on_init_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """The Trainer is built."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Training starts, or goes on from a checkpoint."""

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Training is over; the best model is loaded, where that was asked for."""

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An epoch starts."""

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An epoch is over."""

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An update starts."""

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """The gradients are complete and clipped."""

    def on_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """The optimizer has moved the weights; the gradients are not cleared yet."""

    def on_substep_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """A micro-batch that does not complete its update is done."""

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An update is done and counted."""

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An evaluation is done."""

    def on_predict(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> Any:
        """A prediction is done."""

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """A checkpoint is complete and visible."""

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """A row is logged."""

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """A batch of an evaluation or prediction is done."""

    def on_push_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """The model is about to be uploaded."""


def listens(callback: Any, event: str) -> bool:
    """Whether `callback` defines `event` itself, rather than inheriting the empty method of a base class.

    Callbacks written for transformers inherit from its TrainerCallback, which is recognised by name: it must not be
    imported for that.
    """
    method = getattr(callback, event, None)
    if method is None:
        return False
    function = getattr(method, "__func__", method)
    if function is getattr(TrainerCallback, event):
        return False
    is_reference_base = getattr(function, "__qualname__", "") == f"TrainerCallback.{event}"
    return not (is_reference_base and str(getattr(function, "__module__", "")).startswith("transformers."))


class CallbackHandler(TrainerCallback):
    """Calls the callbacks, in their order, each only for the events that it defines."""

    def __init__(
        self, callbacks: list[Any], model: Any, processing_class: Any, optimizer: Any, lr_scheduler: Any
    ) -> None:
        self.callbacks: list[Any] = []
        self.model = model
        self.processing_class = processing_class
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.train_dataloader: Any = None
        self.eval_dataloader: Any = None
        self._listening: tuple[list[int] | None, dict[str, list[Callable[..., Any]]]] = (None, {})
        for callback in callbacks:
            self.add_callback(callback)

    def add_callback(self, callback: Any) -> None:
        """Appends a callback, given as an instance or a class."""
        instance = callback() if isinstance(callback, type) else callback
        if not any(hasattr(instance, event) for event in EVENTS):
            raise ConfigurationError(
                f"`callbacks`: {instance!r} hears no event: give a TrainerCallback, an instance or its class."
            )
        if type(instance) in [type(c) for c in self.callbacks]:
            logger.warning(
                "A second %s was added to the callbacks, which are now: %s, %s",
                type(instance).__name__,
                ", ".join(self._names()),
                type(instance).__name__,
            )
        self.callbacks.append(instance)

    def pop_callback(self, callback: Any) -> Any:
        """Removes a callback, given as an instance or a class, and returns it; None where there is none."""
        for candidate in self.callbacks:
            if type(candidate) is callback if isinstance(callback, type) else candidate == callback:
                self.callbacks.remove(candidate)
                return candidate
        return None

    def remove_callback(self, callback: Any) -> None:
        """Removes a callback, given as an instance or a class."""
        self.pop_callback(callback)

    @property
    def callback_list(self) -> str:
        """The names of the callbacks, one a line."""
        return "\n".join(self._names())

    def _names(self) -> list[str]:
        return [type(callback).__name__ for callback in self.callbacks]

    def may_differ_between_processes(self) -> bool:
        """Whether callbacks may set other flags on one process than on another."""
        return not all(getattr(callback, "same_on_all_processes", False) for callback in self.callbacks)

    def is_heard_by_others(self, event: str) -> bool:
        """Whether a callback that is not etude's own listens to an event."""
        others = [c for c in self.callbacks if not type(c).__module__.startswith("etude.")]
        return any(listens(callback, event) for callback in others)

    def _listeners(self, event: str) -> list[Callable[..., Any]]:
        # `callbacks` is a public list that users edit, so the table is rebuilt whenever its content changed.
        present = [id(callback) for callback in self.callbacks]  # equal callbacks are not the same ones
        if self._listening[0] != present:
            table = {e: [getattr(c, e) for c in self.callbacks if listens(c, e)] for e in EVENTS}
            self._listening = (present, table)
        return self._listening[1][event]

    def call_event(
        self, event: str, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Calls one event on every callback that defines it and returns the control object that results."""
        for method in self._listeners(event):
            result = method(
                args,
                state,
                control,
                model=self.model,
                processing_class=self.processing_class,
                optimizer=self.optimizer,
                lr_scheduler=self.lr_scheduler,
                train_dataloader=self.train_dataloader,
                eval_dataloader=self.eval_dataloader,
                **kwargs,
            )
            if result is not None:
                control = result
        return control

    def on_init_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        return self.call_event("on_init_end", args, state, control)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        control.should_training_stop = False
        return self.call_event("on_train_begin", args, state, control)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        return self.call_event("on_train_end", args, state, control)

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        control.should_epoch_stop = False
        return self.call_event("on_epoch_begin", args, state, control)

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        return self.call_event("on_epoch_end", args, state, control)

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        control.should_log = control.should_evaluate = control.should_save = False
        return self.call_event("on_step_begin", args, state, control)

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        return self.call_event("on_pre_optimizer_step", args, state, control)

    def on_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        return self.call_event("on_optimizer_step", args, state, control)

    def on_substep_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        return self.call_event("on_substep_end", args, state, control)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        return self.call_event("on_step_end", args, state, control)

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> Any:
        control.should_evaluate = False
        return self.call_event("on_evaluate", args, state, control, metrics=metrics)

    def on_predict(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> Any:
        return self.call_event("on_predict", args, state, control, metrics=metrics)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        control.should_save = False
        return self.call_event("on_save", args, state, control)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> Any:
        control.should_log = False
        return self.call_event("on_log", args, state, control, logs=logs)

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        return self.call_event("on_prediction_step", args, state, control)

    def on_push_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        return self.call_event("on_push_begin", args, state, control, **kwargs)
