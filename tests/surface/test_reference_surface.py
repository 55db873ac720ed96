"""Is everything public of the reference here, by name and with its parameters, or else in the list of differences?

Each test collects all that is missing before it fails. What étude does otherwise on purpose, or not at all, is named in
backticks in ``docs/differences.md``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import etude
from tests import helpers
from tests.surface.inspection import (
    INTERNAL,
    MODULES,
    OWN_METHODS,
    SPELLED_OUT,
    difference,
    fields_of,
    is_plain_class,
    mentioned,
    ours,
    public_methods,
    public_names,
    reference,
    shared,
)

ARGUMENT_CLASSES = ("TrainingArguments", "Seq2SeqTrainingArguments")


def complain(problems: Iterable[tuple[str, str | None]]) -> None:
    """Fails with all problems whose name is not in the list of differences."""
    found = sorted({text for name, text in problems if text is not None and name not in mentioned()})
    if found:
        pytest.fail("\n".join(found), pytrace=False)  # an assertion would show only the first lines


def test_every_public_name_is_here() -> None:
    complain((name, None if ours(name) is not None else f"missing: {name}") for name in public_names())


def test_names_that_transformers_exports_are_here() -> None:
    import transformers

    exported = {
        name
        for name, module in transformers._class_to_module.items()
        if module in {*MODULES, "debug_utils"} and not name.startswith("_") and name not in INTERNAL
    }
    assert {"Trainer", "set_seed", "get_scheduler"} <= exported, "the list is not where it was"
    complain((name, None if ours(name) is not None else f"missing: {name}") for name in exported)


def test_names_left_out_exist_in_the_reference() -> None:
    """The list of what is the reference's own business holds nothing that is gone."""
    there = {name for module in map(reference, MODULES) for name in vars(module)}
    assert there >= INTERNAL


@pytest.mark.parametrize("name", ARGUMENT_CLASSES)
def test_every_argument_has_its_name_and_default(name: str) -> None:
    theirs = fields_of(public_names()[name])
    have = fields_of(ours(name))
    complain((field, None if field in have else f"missing: {field}") for field in theirs)
    complain(
        (field, f"{field} is {have[field]!r} instead of {default!r}")
        for field, default in theirs.items()
        if have[field] != default or type(have[field]) is not type(default)
    )


@pytest.mark.parametrize("name", ARGUMENT_CLASSES)
def test_arguments_have_the_values_of_the_reference_when_built(name: str, tmp_path: Path) -> None:
    """What `__post_init__` makes of the defaults is the same too."""
    built = {}
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            built[library] = getattr(lib, name)(
                output_dir=str(tmp_path), use_cpu=True, report_to="none"
            ).to_dict()
    complain(
        (field, f"{field} is {built['etude'].get(field, 'absent')!r} instead of {value!r}")
        for field, value in built["transformers"].items()
        if built["etude"].get(field, "absent") != value
    )


def test_functions_and_constructors_take_the_same_parameters() -> None:
    def taken(value: Any) -> bool:
        return isinstance(value, FunctionType) or (
            is_plain_class(value) and value.__name__ not in ARGUMENT_CLASSES
        )

    complain(
        (name, difference(name, mine, theirs))
        for name, mine, theirs in shared(taken)
        if name not in SPELLED_OUT
    )


def test_the_forward_watcher_is_built_alike() -> None:
    from transformers.debug_utils import DebugUnderflowOverflow

    assert difference("it", etude.DebugUnderflowOverflow, DebugUnderflowOverflow) is None


def test_enumerations_have_the_same_members() -> None:
    def closed(value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, enum.Enum)

    complain(
        (member.name, f"{name} lacks {member.name}")
        for name, mine, theirs in shared(closed)
        for member in theirs
        if member.name not in mine.__members__ or mine[member.name].value != member.value
    )


def test_public_methods_have_the_same_signatures() -> None:
    complain(
        (method, missing_or_different(name, mine, method, theirs))
        for name, mine, reference_class in shared(is_plain_class)
        for method, theirs in public_methods(reference_class).items()
        if f"{name}.{method}" not in OWN_METHODS
    )


def missing_or_different(name: str, mine: type, method: str, theirs: Any) -> str | None:
    """What is wrong with a method or property of ``mine``."""
    if not hasattr(mine, method):
        return f"missing: {name}.{method}"
    if isinstance(theirs, property):
        return None
    bound = theirs.__get__(None, mine) if isinstance(theirs, (classmethod, staticmethod)) else theirs
    return difference(f"{name}.{method}", getattr(mine, method), bound)


@pytest.mark.parametrize(
    "name", ["Trainer", "TrainerState", "TrainerControl", "TrainingArguments", "EarlyStoppingCallback"]
)
def test_the_comparison_sees_something(name: str) -> None:
    """The classes that matter most are among those compared."""
    assert any(name == found for found, _, _ in shared(is_plain_class))
    assert public_methods(public_names()[name])


def test_a_missing_name_is_noticed() -> None:
    assert not hasattr(etude, "LayerWiseDummyOptimizer") or "LayerWiseDummyOptimizer" in etude.__all__
    with pytest.raises(pytest.fail.Exception, match="missing: nowhere_at_all"):
        complain([("nowhere_at_all", "missing: nowhere_at_all")])
    assert difference("f", lambda a: a, lambda a, b=1: a) is not None
    assert difference("f", lambda a, b=1, c=2: a, lambda a, b=1: a) is None
    assert difference("f", lambda a, b=2: a, lambda a, b=1: a) is not None
    assert difference("f", lambda b, a: a, lambda a, b: a) is not None
