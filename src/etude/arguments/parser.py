"""`HfArgumentParser`: dataclasses filled from the command line, a dictionary, JSON or YAML."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from argparse import SUPPRESS, ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NewType

from etude.arguments.casting import hints_of, string_to_bool, typed
from etude.arguments.io import read_json, read_yaml
from etude.arguments.legacy import suggestion
from etude.arguments.older_names import OLDER_NAMES
from etude.arguments.parser_options import HfArg as HfArg
from etude.arguments.parser_options import converter, options_of
from etude.arguments.training import TrainingArguments
from etude.errors import ConfigurationError

DataClass = NewType("DataClass", Any)  # type: ignore[valid-newtype]
DataClassType = NewType("DataClassType", Any)  # type: ignore[valid-newtype]


class HfArgumentParser(ArgumentParser):
    """An `argparse` parser whose options are the fields of dataclasses.

    More options can be added with `add_argument`; their values come back in a namespace after the dataclasses. The
    attribute `_argument_group_name` of a dataclass puts its options into a group of that name. Where one of the classes
    is `TrainingArguments`, the arguments of transformers 4 are understood too.

    Args:
        dataclass_types: one dataclass or several.
        **kwargs: arguments of `argparse.ArgumentParser`.

    Raises:
        ConfigurationError: a field has a type that text cannot be brought to.
        SetupError: the annotations of a dataclass cannot be resolved.
    """

    dataclass_types: list[Any]

    def __init__(self, dataclass_types: Any = None, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", ArgumentDefaultsHelpFormatter)
        super().__init__(**kwargs)
        if dataclass_types is None:
            dataclass_types = []
        one = dataclasses.is_dataclass(dataclass_types) or not isinstance(dataclass_types, Iterable)
        self.dataclass_types = [dataclass_types] if one else list(dataclass_types)
        self._older_names: set[str] = set()
        for dtype in self.dataclass_types:
            self._add_dataclass_arguments(dtype)

    def _add_dataclass_arguments(self, dtype: Any) -> None:
        name = getattr(dtype, "_argument_group_name", None)
        group = self if name is None else self.add_argument_group(name)
        hints = hints_of(dtype)
        for field in init_fields(dtype):
            for option in options_of(field, hints[field.name]):
                group.add_argument(*option.flags, **option.settings)

    def parse_args_into_dataclasses(
        self,
        args: Sequence[str] | None = None,
        return_remaining_strings: bool = False,
        look_for_args_file: bool = True,
        args_filename: str | os.PathLike[str] | None = None,
        args_file_flag: str | None = None,
    ) -> tuple[Any, ...]:
        """The dataclasses of a command line.

        Args:
            args: the words; those of this process if None.
            return_remaining_strings: also return the words that no option takes, as the last element.
            look_for_args_file: read a file `<script>.args` beside the script first, where there is one.
            args_filename: read this file first instead.
            args_file_flag: an option, such as "--args_file", that names more files; may be given several times. What
                comes later wins: files in their order, then the command line.

        Returns:
            An instance of each class, then a namespace of the options that were added besides, if there are any.

        Raises:
            ConfigurationError: a word is not used (a ValueError).
        """
        words = list(sys.argv[1:] if args is None else args)
        files = [Path(args_filename)] if args_filename else []
        if not files and look_for_args_file and sys.argv:
            files = [Path(sys.argv[0]).with_suffix(".args")]
        if args_file_flag:
            named = ArgumentParser(add_help=False, allow_abbrev=False)
            named.add_argument(args_file_flag, dest="files", action="append", default=[])
            found, words = named.parse_known_args(words)
            files += map(Path, found.files)
        words = [word for file in files if file.exists() for word in words_of(file)] + words
        self._add_older_names()
        namespace, remaining = self.parse_known_args(words)
        outputs: list[Any] = [self._instance(dtype, namespace) for dtype in self.dataclass_types]
        if vars(namespace):
            outputs.append(namespace)
        if return_remaining_strings:
            return (*outputs, remaining)
        if remaining:
            raise ConfigurationError(
                f"Some specified arguments are not used by the HfArgumentParser: {remaining}"
                f"{self._meant([word for word in remaining if word.startswith('--')])}"
            )
        return tuple(outputs)

    def _add_older_names(self) -> None:
        """Options of transformers 4 that no other option has the name of; they are not shown in the help."""
        if not any(map(has_older_names, self.dataclass_types)):
            return
        for name, older in OLDER_NAMES.items():
            if f"--{name}" in self._option_string_actions:
                continue
            switch: dict[str, Any] = {"nargs": "?", "const": True} if older.kind is bool else {}
            kind = string_to_bool if older.kind is bool else converter(older.kind)
            self.add_argument(f"--{name}", type=kind, default=SUPPRESS, help=SUPPRESS, **switch)
            self._older_names.add(name)

    def _instance(self, dtype: Any, namespace: Namespace) -> Any:
        """Takes the values of one dataclass out of the namespace."""
        names = {field.name for field in init_fields(dtype)}
        given = {name: value for name, value in vars(namespace).items() if name in names}
        if has_older_names(dtype):
            older = vars(namespace).keys() & self._older_names
            given = chosen(dtype, given) | {name: getattr(namespace, name) for name in older}
            names |= older
        for name in names:
            delattr(namespace, name)
        return dtype(**given)

    def _meant(self, words: Sequence[str]) -> str:
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        return "".join(suggestion(word.partition("=")[0], flags, []) for word in words)

    def parse_dict(self, args: dict[str, Any], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """The dataclasses of a dictionary. Text is brought to the type of its field, where it is that of a number.

        Args:
            args: values by field name.
            allow_extra_keys: leave out keys that no dataclass has.

        Raises:
            ConfigurationError: there is such a key, and that is not allowed (a ValueError).
        """
        outputs: list[Any] = []
        unused = set(args)
        for dtype in self.dataclass_types:
            names = {field.name for field in init_fields(dtype)}
            if has_older_names(dtype):
                names |= unused & OLDER_NAMES.keys()
            unused -= names
            given = {name: value for name, value in args.items() if name in names}
            outputs.append(dtype(**typed(dtype, given)))
        if unused and not allow_extra_keys:
            known = [field.name for dtype in self.dataclass_types for field in init_fields(dtype)]
            hints_at = "".join(suggestion(name, known, []) for name in sorted(unused))
            raise ConfigurationError(
                f"Some keys are not used by the HfArgumentParser: {sorted(unused)}{hints_at}"
            )
        return tuple(outputs)

    def parse_json_file(
        self, json_file: str | os.PathLike[str], allow_extra_keys: bool = False
    ) -> tuple[Any, ...]:
        """The dataclasses of a JSON file; see `parse_dict`."""
        return self.parse_dict(read_json(json_file), allow_extra_keys)

    def parse_yaml_file(
        self, yaml_file: str | os.PathLike[str], allow_extra_keys: bool = False
    ) -> tuple[Any, ...]:
        """The dataclasses of a YAML file; see `parse_dict`.

        Raises:
            MissingPackageError: PyYAML is not installed.
        """
        return self.parse_dict(read_yaml(yaml_file), allow_extra_keys)


def words_of(file: Path) -> list[str]:
    """The words of a file of arguments; quotes keep words together, and nothing else is special.

    Raises:
        ConfigurationError: a quote is not closed.
    """
    lexer = shlex.shlex(file.read_text(encoding="utf-8"), posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    try:
        return list(lexer)
    except ValueError:
        raise ConfigurationError(f"A quote in {file} is not closed: add the second one.") from None


def init_fields(dtype: Any) -> list[dataclasses.Field[Any]]:
    """The fields that the constructor takes."""
    return [field for field in dataclasses.fields(dtype) if field.init]


def has_older_names(dtype: Any) -> bool:
    """Whether a dataclass understands the arguments of transformers 4."""
    return isinstance(dtype, type) and issubclass(dtype, TrainingArguments)


def chosen(dtype: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The values that are not the defaults: those that somebody may have written down."""
    defaults = {field.name: field.default for field in init_fields(dtype)}
    return {name: value for name, value in values.items() if value != defaults[name]}
