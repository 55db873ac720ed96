"""`TrainingArguments`: the fields of every group, normalised and checked while they are built.

Building one has no side effect: no device is touched, no process group started, no environment changed.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.arguments import fields as groups
from etude.arguments import io, legacy, rules
from etude.arguments.accelerate import AccelerateArguments
from etude.arguments.builders import Builders
from etude.arguments.casting import typed
from etude.arguments.place import Place

if TYPE_CHECKING:
    from typing_extensions import Self


class _CheckedNames(type):
    """Looks at keyword names before the dataclass does, so that a misspelling is answered with a suggestion."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
        return super().__call__(*args, **legacy.translate(kwargs, fields))

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
    Builders,
    Place,
    AccelerateArguments,
    metaclass=_CheckedNames,
):
    """Everything that says how a run goes; see `etude.arguments.fields` for the meaning of each.

    Raises:
        UnknownArgumentError: a name that does not exist (a TypeError).
        ConfigurationError: a value or a combination that cannot work (a ValueError).
    """

    # The reference's name: subclasses add fields of their own that take a dictionary as JSON text.
    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*io.JSON_FIELDS]

    def __post_init__(self) -> None:
        rules.settle(self)

    def __getattr__(self, name: str) -> Any:  # only asked for names that are not there
        return legacy.read_older(self, name)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Updates of warm-up in a run of that many updates."""
        if self.warmup_steps >= 1:
            return int(self.warmup_steps)
        return math.ceil(num_training_steps * self.warmup_steps)

    # Plain values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The arguments that `to_dict` made a dictionary of, or that a file says.

        Numbers in text ("1e-4") become numbers. A masked token is no token.
        """
        return cls(**typed(cls, values))

    @classmethod
    def from_json(cls, file: str | os.PathLike[str]) -> Self:
        """The arguments of a JSON file, such as the `training_args.json` of a checkpoint."""
        return cls.from_dict(io.read_json(file))

    @classmethod
    def from_yaml(cls, file: str | os.PathLike[str]) -> Self:
        """The arguments of a YAML file.

        Raises:
            MissingPackageError: PyYAML is not installed.
        """
        return cls.from_dict(io.read_yaml(file))

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
