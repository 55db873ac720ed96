"""`TrainingArguments`: the fields of every group, normalised and checked while they are built.

Building one has no side effect: no device is touched, no process group started, no environment changed.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from etude.arguments import fields as groups
from etude.arguments import io, rules
from etude.arguments.legacy import translate
from etude.core.names import (
    HubStrategy,
    IntervalStrategy,
    NonFinitePolicy,
    ParallelMode,
    SaveStrategy,
    SchedulerType,
)
from etude.core.world import World
from etude.errors import ConfigurationError

CHOICES = {
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
    "hub_strategy": HubStrategy,
    "lr_scheduler_type": SchedulerType,
    "on_nonfinite": NonFinitePolicy,
}


class _CheckedNames(type):
    """Looks at keyword names before the dataclass does, so that a misspelling is answered with a suggestion."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        known = [f.name for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
        return super().__call__(*args, **translate(kwargs, known))

    @property
    def __signature__(cls) -> inspect.Signature:
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
        return inspect.Signature(parameters)


# Dataclass fields are collected from the last base to the first: output_dir, the one argument that is given by
# position, has to come last here.
@dataclass(repr=False)
class TrainingArguments(
    groups.RunFields,
    groups.HubFields,
    groups.DistributedFields,
    groups.DataFields,
    groups.SavingFields,
    groups.EvaluationFields,
    groups.LoggingFields,
    groups.MemoryFields,
    groups.PrecisionFields,
    groups.OptimFields,
    groups.ScheduleFields,
    groups.BatchFields,
    groups.OutputFields,
    metaclass=_CheckedNames,
):
    """Everything that says how a run goes; see `etude.arguments.fields` for the meaning of each.

    Raises:
        UnknownArgumentError: a name that does not exist (a TypeError).
        ConfigurationError: a value or a combination that cannot work (a ValueError).
    """

    def __post_init__(self) -> None:
        self.output_dir = os.path.expanduser(
            self.output_dir if self.output_dir is not None else "trainer_output"
        )
        io.parse_json_fields(self)
        self._normalise_names()
        self._normalise_reporting()
        self._derive()
        rules.check(self)

    def _normalise_names(self) -> None:
        self.optim = str(io.plain(self.optim))
        for name, enumeration in CHOICES.items():
            try:
                setattr(self, name, enumeration(getattr(self, name)))
            except ValueError as error:
                raise ConfigurationError(f"`{name}`: {error}.") from None

    def _normalise_reporting(self) -> None:
        if self.report_to in (None, "none", ["none"]):
            self.report_to = []
        elif isinstance(self.report_to, str):
            self.report_to = [self.report_to]
        if isinstance(self.include_num_input_tokens_seen, bool):
            self.include_num_input_tokens_seen = "all" if self.include_num_input_tokens_seen else "no"
        self.log_level, self.log_level_replica = self.log_level.lower(), self.log_level_replica.lower()
        if not self.debug:
            self.debug = []

    def _derive(self) -> None:
        self.do_eval = self.do_eval or self.eval_strategy != IntervalStrategy.NO
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "loss"
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not self.metric_for_best_model.endswith("loss")
        if self.use_cpu:
            self.dataloader_pin_memory = False
        if isinstance(self.num_train_epochs, int):
            self.num_train_epochs = float(self.num_train_epochs)

    # Where the run is

    @property
    def world(self) -> World:
        """The place of this process among those of the run."""
        return World.from_environment()

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.world.size

    @property
    def process_index(self) -> int:
        """Rank of this process among all."""
        return self.world.rank

    @property
    def local_process_index(self) -> int:
        """Rank of this process on its machine."""
        return self.world.local_rank

    @property
    def parallel_mode(self) -> ParallelMode:
        """Whether several processes share the work."""
        return ParallelMode.DISTRIBUTED if self.world_size > 1 else ParallelMode.NOT_PARALLEL

    @property
    def n_gpu(self) -> int:
        """Devices of this process: 1 with an accelerator, else 0 (one process drives one device)."""
        return int(self.device.type != "cpu")

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        accelerator = None if self.use_cpu else torch.accelerator.current_accelerator(check_available=True)
        if accelerator is None:
            return torch.device("cpu")
        return torch.device(accelerator.type, self.local_process_index)

    @property
    def should_save(self) -> bool:
        """Whether this process writes the model."""
        return self.world.is_main

    @property
    def should_log(self) -> bool:
        """Whether this process prints."""
        return self.world.is_local_main if self.log_on_each_node else self.world.is_main

    def get_process_log_level(self) -> int:
        """The `logging` level that this process was asked for."""
        name = self.log_level if self.should_log else self.log_level_replica
        return logging.WARNING if name == "passive" else int(getattr(logging, name.upper()))

    # Derived numbers

    @property
    def train_batch_size(self) -> int:
        """Samples in a micro-batch of this process."""
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        """Samples in an evaluation batch of this process."""
        return self.per_device_eval_batch_size

    @property
    def ddp_timeout_delta(self) -> timedelta:
        """How long a collective may take."""
        return timedelta(seconds=self.ddp_timeout)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Updates of warm-up in a run of that many updates."""
        if self.warmup_steps >= 1:
            return int(self.warmup_steps)
        return math.ceil(num_training_steps * self.warmup_steps)

    # Plain values

    def to_dict(self) -> dict[str, Any]:
        """Every argument as a plain value; tokens are masked."""
        return io.to_dict(self)

    def to_json_string(self) -> str:
        """`to_dict` as indented JSON."""
        return io.to_json(self)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """`to_dict` with only numbers, truth values and text, as trackers want it."""
        values = {
            **self.to_dict(),
            "train_batch_size": self.train_batch_size,
            "eval_batch_size": self.eval_batch_size,
        }
        return {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in values.items()}

    def __repr__(self) -> str:
        return io.to_text(self)

    __str__ = __repr__
