"""Is every value of the type that its field says?"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from etude.arguments import fields
from etude.arguments.normalise import ENUMERATIONS
from etude.errors import ConfigurationError

NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a dictionary",
    type(None): "None",
}
# Scripts pass all sorts of things on in this one; the Trainer does not look at it.
UNCHECKED = ("resume_from_checkpoint",)


def values_of_their_kind(args: Any) -> None:
    """Every field holds a value of its type; numbers of NumPy and PyTorch become Python's own, paths become text.

    Raises:
        ConfigurationError: a value is of another type, such as a number in quotes.
    """
    for name, hint in kinds_of(args.__class__).items():
        value = getattr(args, name)
        converted = _converted(value, hint)
        if not fits(converted, hint):
            raise ConfigurationError(
                f"`{name}` must be {described(hint)}, it is {value!r}{_advice(value, hint)}."
            )
        if converted is not value:
            setattr(args, name, converted)


@lru_cache(maxsize=64)
def kinds_of(cls: type) -> dict[str, Any]:
    """The types of the fields that are checked: etude's own, as `cls` declares them."""
    groups = [base for base in cls.__mro__ if base.__module__ == fields.__name__]
    own = {name: kind for group in groups for name, kind in typing.get_type_hints(group).items()}
    try:
        hints = typing.get_type_hints(cls)
    except NameError:  # a subclass inside a function, whose annotations cannot be found
        hints = own
    return {name: hints[name] for name in own if name not in {*ENUMERATIONS, *UNCHECKED}}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type `hint`. Whole numbers are numbers; truth values are not."""
    origin = get_origin(hint) or hint
    if origin is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is list:
        return isinstance(value, (list, tuple))
    if origin is dict:
        return isinstance(value, Mapping)
    if origin in (int, float):
        kinds = (int, float) if origin is float else int
        return isinstance(value, kinds) and not isinstance(value, bool)
    return not isinstance(origin, type) or isinstance(value, origin)


def described(hint: Any) -> str:
    """A type in words."""
    parts = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    names = [NAMES.get(get_origin(part) or part, str(part)) for part in parts]
    return " or ".join(dict.fromkeys(sorted(names, key=lambda name: name == "None")))


def _converted(value: Any, hint: Any) -> Any:
    if type(value).__module__ in ("numpy", "torch") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, os.PathLike) and str in (get_args(hint) or (hint,)):
        return os.fspath(value)
    if hint is bool and (value is None or (type(value) is int and value in (0, 1))):
        return bool(value)
    return value


def _advice(value: Any, hint: Any) -> str:
    if not isinstance(value, str):
        return ""
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        return " (text in quotes is never False): write True or False without quotes"
    return " (text in quotes): write it as a number" if {int, float} & set(kinds) else ""
