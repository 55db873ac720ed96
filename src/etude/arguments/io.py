"""Arguments to and from plain values: dictionaries, JSON, and the text that `print(args)` shows."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from etude.errors import ConfigurationError
from etude.optional import require

JSON_FIELDS = (
    "accelerator_config",
    "fsdp_config",
    "deepspeed",
    "activation_checkpointing_kwargs",
    "gradient_checkpointing_kwargs",
    "lr_scheduler_kwargs",
    "learning_rates",
    "mixing_weights",
)


def parse_json_fields(args: Any) -> None:
    """Replaces JSON text in the fields that take a dictionary by that dictionary."""
    for name in args._VALID_DICT_FIELDS:
        value = getattr(args, name)
        if not isinstance(value, str) or (
            name != "lr_scheduler_kwargs" and not value.lstrip().startswith("{")
        ):
            continue  # the others may be paths
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"`{name}` is not valid JSON ({error}): {value}") from error
        setattr(args, name, coerce(parsed))


def coerce(value: Any) -> Any:
    """Text that means a number or a truth value, as that value; containers are walked through."""
    if isinstance(value, dict):
        return {key: coerce(item) for key, item in value.items()}
    if isinstance(value, list):
        return [coerce(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if callable(getattr(value, "to_dict", None)):  # a configuration of transformers
        return plain(value.to_dict())
    return value


def mask(name: str) -> str:
    """What stands for a token in what is written."""
    return f"<{name.upper()}>"


def to_dict(args: Any) -> dict[str, Any]:
    """Every argument as a plain value; tokens are masked."""
    result = {f.name: plain(getattr(args, f.name)) for f in dataclasses.fields(args) if f.init}
    for name, value in result.items():
        if name.endswith("_token") and value is not None:
            result[name] = mask(name)
    return result


def to_json(args: Any) -> str:
    """`to_dict` as indented JSON; what JSON cannot hold becomes its text."""
    return json.dumps(to_dict(args), indent=2, default=str)


def read_json(file: str | os.PathLike[str]) -> Any:
    """What a JSON file holds.

    Raises:
        ConfigurationError: it is not JSON.
    """
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{file} is not valid JSON ({error}).") from error


def read_yaml(file: str | os.PathLike[str]) -> Any:
    """What a YAML file holds.

    Raises:
        MissingPackageError: PyYAML is not installed.
    """
    yaml = require("yaml", "Reading YAML", install="pyyaml")
    return yaml.safe_load(Path(file).read_text(encoding="utf-8"))


def to_text(args: Any) -> str:
    """One argument a line, sorted."""
    lines = [f"{name}={value!r}," for name, value in sorted(to_dict(args).items())]
    return "\n".join([f"{type(args).__name__}(", *lines, ")"])
