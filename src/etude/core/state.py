"""Where a run stands (`TrainerState`) and what it has been asked to do next (`TrainerControl`)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etude.core.interval import Interval
from etude.errors import CheckpointError


class ExportableState:
    """A callback, or the control object, that keeps its state in checkpoints.

    Subclasses return from `state()` what their constructor takes ("args") and what is set afterwards ("attributes").
    """

    def state(self) -> dict[str, Any]:
        """What a checkpoint should keep: {"args": {...}, "attributes": {...}}."""
        raise NotImplementedError(f"{type(self).__name__} must define `state()` to be kept in checkpoints")

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ExportableState:
        """A new instance with that state."""
        instance = cls(**state["args"])
        for name, value in state["attributes"].items():
            setattr(instance, name, value)
        return instance


@dataclass
class TrainerState:
    """Where a run stands; saved as `trainer_state.json` in the reference's layout.

    Attributes:
        epoch: passes over the data so far, fractional.
        global_step: optimizer updates so far.
        max_steps: updates of the whole run.
        log_history: every logged row, with its "step".
        best_metric: best value of `metric_for_best_model` so far, reached at `best_global_step`.
        best_model_checkpoint: folder of the checkpoint of that step.
        stateful_callbacks: state of each `ExportableState` callback by class name.
    """

    epoch: float | None = 0
    global_step: int = 0
    max_steps: int = 0
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, Any] | None = None
    stateful_callbacks: Any = field(default_factory=dict)

    def save_to_json(self, json_path: str) -> None:
        """Writes the state as indented, sorted JSON."""
        text = json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"
        Path(json_path).write_text(text, encoding="utf-8")

    @classmethod
    def load_from_json(cls, json_path: str) -> TrainerState:
        """Reads what `save_to_json`, or the reference, has written.

        Raises:
            CheckpointError: the file is missing or not a trainer state.
        """
        try:
            values = json.loads(Path(json_path).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise CheckpointError(f"Cannot read the trainer state {json_path}: {error}") from error
        if not isinstance(values, dict):
            raise CheckpointError(f"Cannot read the trainer state {json_path}: it is no JSON object.")
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def compute_steps(self, args: Any, max_steps: int) -> None:
        """Sets how many updates lie between logs, evaluations and checkpoints; shares of the run are resolved."""
        for name in ("logging_steps", "eval_steps", "save_steps"):
            value = getattr(args, name)
            if value is not None:
                setattr(self, name, Interval.of(value).steps(max_steps))


@dataclass
class TrainerControl(ExportableState):
    """What callbacks ask of the loop. The loop reads the flags at one point of the step and clears them.

    Attributes:
        should_training_stop: end training after this step.
        should_epoch_stop: end this epoch after this step.
        should_save: save a checkpoint at this step.
        should_evaluate: evaluate at this step.
        should_log: log at this step.
    """

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False

    def _new_training(self) -> None:
        self.should_training_stop = False

    def _new_epoch(self) -> None:
        self.should_epoch_stop = False

    def _new_step(self) -> None:
        self.should_save = False
        self.should_evaluate = False
        self.should_log = False

    def state(self) -> dict[str, Any]:
        return {"args": dataclasses.asdict(self), "attributes": {}}


@dataclass(frozen=True)
class Plan:
    """The size of a run, worked out before its first step.

    Attributes:
        num_epochs: epochs to start, the last of which may end early; None where the data has no known length.
        updates_per_epoch: updates in a full epoch.
        micro_steps_per_epoch: micro-batches of each process in a full epoch; None where unknown.
        epoch_length: micro-batches that `state.epoch` counts as one epoch: those of a full epoch, or of the whole run
            where the length of an epoch is unknown.
        max_steps: updates of the whole run.
        num_examples: samples in the data set, or those that will be seen where it has no length.
        num_samples: samples that the whole run processes.
        global_batch_size: samples of a full update.
    """

    num_epochs: int | None
    updates_per_epoch: int
    micro_steps_per_epoch: int | None
    epoch_length: int
    max_steps: int
    num_examples: int
    num_samples: float
    global_batch_size: int
