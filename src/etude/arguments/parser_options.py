"""From a field of a dataclass to an option of a command line."""

from __future__ import annotations

import dataclasses
import inspect
import json
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from etude.arguments.casting import parts_of, string_to_bool
from etude.errors import ConfigurationError


@dataclass(frozen=True)
class Option:
    """One call of `ArgumentParser.add_argument`.

    Attributes:
        flags: the names on the command line.
        settings: keyword arguments.
    """

    flags: Sequence[str]
    settings: dict[str, Any] = field(default_factory=dict)


def HfArg(  # noqa: N802 - the reference's name
    *,
    aliases: str | list[str] | None = None,
    help: str | None = None,
    default: Any = dataclasses.MISSING,
    default_factory: Callable[[], Any] = dataclasses.MISSING,  # type: ignore[assignment]
    metadata: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """A dataclass field with what `HfArgumentParser` wants to know.

    Args:
        aliases: more names on the command line, such as "-e".
        help: what `--help` shows.
        default: the default; without one, and without `default_factory`, the option is required.
        default_factory: makes the default.
        metadata: more keyword arguments of `ArgumentParser.add_argument`.
        **kwargs: more keyword arguments of `dataclasses.field`.
    """
    told = {**(metadata or {})}
    told |= {name: value for name, value in (("aliases", aliases), ("help", help)) if value is not None}
    return dataclasses.field(metadata=told, default=default, default_factory=default_factory, **kwargs)


def options_of(field: dataclasses.Field[Any], hint: Any) -> list[Option]:
    """The options that set a field of type `hint`: one, and `--no_<name>` where a truth value is True by default.

    Raises:
        ConfigurationError: the type is a union of several that text could not be told apart for.
    """
    metadata = dict(field.metadata)
    aliases = metadata.pop("aliases", [])
    flags = [*_spellings(field.name), *([aliases] if isinstance(aliases, str) else aliases)]
    parts = parts_of(hint)
    if len(parts) > 1 and str not in parts:
        raise ConfigurationError(
            f"The field {field.name!r} may have several types, {' or '.join(map(str, parts))}, which text cannot be "
            "told apart for: only `Optional[X]` and unions with `str` can be options."
        )
    settings = {**_default(field), **_of_kind(parts), **metadata}
    if parts != (bool,):
        return [Option(flags, settings)]
    if settings.pop("required", False):
        settings["default"] = False if hint is bool else None
    options = [Option(flags, {"nargs": "?", "const": True, **settings})]
    if field.default is True:
        off = {"action": "store_false", "dest": field.name, "default": False, "help": metadata.get("help")}
        options.append(Option([f"--no_{field.name}", f"--no-{field.name.replace('_', '-')}"], off))
    return options


def _spellings(name: str) -> list[str]:
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


def _default(field: dataclasses.Field[Any]) -> dict[str, Any]:
    if field.default is not dataclasses.MISSING:
        return {"default": field.default}
    if field.default_factory is not dataclasses.MISSING:
        return {"default": field.default_factory()}
    return {"required": True}


def _of_kind(parts: tuple[Any, ...]) -> dict[str, Any]:
    """How text becomes a value of one of the types."""
    named = [part for part in parts if part is not str]
    kind = named[0] if named else str
    may_be_text = bool(named) and str in parts
    if _is(kind, list):
        element = converter((*get_args(kind), str)[0])
        # one word alone is text, as it would be in Python
        return {"nargs": "+", "type": element, **({"action": OneOrMore} if may_be_text else {})}
    if may_be_text and not _is(kind, Enum):
        switch = {"nargs": "?", "const": True} if kind is bool else {}
        return {"type": lambda text: _converted_or_text(text, kind), **switch}
    choices = _choices(kind)
    return {"type": converter(kind), **({"choices": choices} if choices else {})}


def _is(kind: Any, base: type) -> bool:
    return inspect.isclass(get_origin(kind) or kind) and issubclass(get_origin(kind) or kind, base)


class OneOrMore(Action):
    """Keeps one value as it is, and several as a list."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Called by argparse."""
        setattr(namespace, self.dest, values[0] if len(values) == 1 else values)


def _choices(kind: Any) -> list[Any]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [member.value for member in kind] if _is(kind, Enum) else []


def converter(kind: Any) -> Callable[[str], Any]:
    """The function from text to a value of a type."""
    if kind is bool:
        return string_to_bool
    if _is(kind, dict):
        return _json
    if choices := _choices(kind):  # any other text is left for argparse to refuse
        return lambda text: {str(choice): choice for choice in choices}.get(text, text)
    return str if kind is Any else kind


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ArgumentTypeError(f"not valid JSON ({error}): {text}") from None


def _converted_or_text(text: str, kind: Any) -> Any:
    if _is(kind, dict):
        return text  # a path, or JSON for whoever takes the value
    try:
        return converter(kind)(text)
    except (ValueError, TypeError, ArgumentTypeError):
        return text
