"""From what a file says to the type of a field."""

from __future__ import annotations

import types
import typing
from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from etude.errors import SetupError

YES = ("yes", "true", "t", "y", "1")
NO = ("no", "false", "f", "n", "0")


def string_to_bool(value: str | bool) -> bool:
    """The truth value that a word stands for.

    Raises:
        ArgumentTypeError: it stands for none.
    """
    word = str(value).lower()
    if word not in YES + NO:
        raise ArgumentTypeError(f"{value!r} is neither true nor false: write one of {', '.join(YES + NO)}.")
    return word in YES


def parts_of(hint: Any) -> tuple[Any, ...]:
    """The types that a value may have besides None."""
    united = get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(part for part in (get_args(hint) if united else (hint,)) if part is not type(None))


def hints_of(dtype: Any) -> dict[str, Any]:
    """The types of the fields of a dataclass.

    Raises:
        SetupError: an annotation names something that cannot be found.
    """
    try:
        return typing.get_type_hints(dtype)
    except NameError as error:
        raise SetupError(
            f"The annotations of {dtype.__name__} cannot be resolved ({error}): declare the class at the top of a "
            "module that imports what they name."
        ) from error


def typed(dtype: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the fields of a dataclass, each cast to the type of its field."""
    hints = hints_of(dtype)
    return {name: cast(value, hints.get(name, Any)) for name, value in values.items()}


def cast(value: Any, hint: Any) -> Any:
    """What a file says for a field of type `hint`: YAML leaves 1e-4 as text, and JSON may have a number in quotes.

    What is of the right type, or cannot be brought to it, is returned as it is.
    """
    parts = parts_of(hint)
    if isinstance(value, list):
        elements = [get_args(part)[0] for part in parts if get_origin(part) is list]
        return [cast(item, elements[0]) for item in value] if elements else value
    if type(value) is float and value.is_integer() and int in parts and float not in parts:
        return int(value)
    if not isinstance(value, str) or str in parts:
        return value
    for part in parts:
        try:
            return _from_text(value, part)
        except (ValueError, ArgumentTypeError):
            continue
    return value


def _from_text(text: str, kind: Any) -> Any:
    if kind is bool:
        return string_to_bool(text)
    if kind is float:
        return float(text)
    if kind is int:
        number = float(text)
        return int(number) if number.is_integer() else number
    if get_origin(kind) is Literal:
        return {str(choice): choice for choice in get_args(kind)}.get(text, text)
    raise ValueError(kind)
