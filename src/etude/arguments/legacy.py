"""Keyword arguments and attributes under the names of transformers 4, and what to say about unknown ones."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from etude.arguments.older_names import OLDER_NAMES, OlderName
from etude.errors import EtudeError, UnknownArgumentError

# Older arguments that are fields still, because scripts and trackers read them. A copy of arguments, which is given
# every field, does not warn again.
KEPT = {
    "logging_dir": "only says where TensorBoard's files go; every row of the log is in `output_dir/log.jsonl`.",
    "overwrite_output_dir": "is only for scripts to read: a run never empties its folder.",
}

# Older arguments that are fields still in the reference, as other names of newer ones.
ALIASES = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}


def translate(given: Mapping[str, Any], fields: Mapping[str, dataclasses.Field[Any]]) -> dict[str, Any]:
    """Keyword arguments under their names of today, with one FutureWarning for each older name.

    Args:
        given: what the caller passed.
        fields: the fields that exist, by name.

    Raises:
        UnknownArgumentError: a name that neither exists nor existed, which says the one that was probably meant; or an
            older and its newer name together.
        UnsupportedOptionError: an older name with a value that cannot be had any more.
    """
    result = {name: value for name, value in given.items() if name in fields}
    chosen = {
        name: value for name, value in given.items() if name not in fields or value != fields[name].default
    }
    notes = {} if len(result) == len(fields) else {name: KEPT[name] for name in result if name in KEPT}
    for name, new in ALIASES.items():
        if given.get(name) is not None and given.get(new) is None:
            result[new], notes[name] = given[name], f"is now called `{new}`; please rename it."
    for name in [name for name in given if name not in fields]:
        older = OLDER_NAMES.get(name)
        if older is None:
            raise UnknownArgumentError(f"There is no training argument {name!r}.{suggestion(name, fields)}")
        today = _today(name, older, chosen)
        result |= today
        chosen |= today
        notes[name] = older.note
    for name, note in notes.items():
        warnings.warn(f"`{name}` {note}", FutureWarning, stacklevel=3)
    return result


def _today(name: str, older: OlderName, chosen: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {} if chosen[name] is None else older.today(chosen[name], chosen)
    except EtudeError as error:
        raise type(error)(f"`{name}`: {error}") from None


def read_older(args: Any, name: str) -> Any:
    """The value of an attribute that arguments had in version 4.

    Raises:
        AttributeError: there is no such attribute.
    """
    older = OLDER_NAMES.get(name)
    if older is None or older.read is None:
        raise AttributeError(f"{type(args).__name__!r} object has no attribute {name!r}", name=name, obj=args)
    return older.read(args)


def suggestion(name: str, known: Collection[str], older: Collection[str] = OLDER_NAMES) -> str:
    """The end of an error sentence: the names, known or `older`, that look most like `name`."""
    close = difflib.get_close_matches(name, [*known, *older], n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(candidate) for candidate in close)}?" if close else ""
