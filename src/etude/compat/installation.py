"""Putting etude's names where code written for transformers finds them, and taking them away again."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from etude.compat import names, process_state
from etude.compat.stubs import Stub
from etude.errors import SetupError
from etude.optional import require

_ABSENT = object()


class Patches:
    """Assignments that can be taken back, the last one first."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def set(self, holder: Any, name: str, value: Any) -> None:
        """Assigns an attribute of a module or class."""
        self._undo.append((holder, name, vars(holder).get(name, _ABSENT)))
        setattr(holder, name, value)

    def put_module(self, name: str, module: ModuleType) -> None:
        """Makes `module` what importing `name` gives."""
        package = sys.modules[name.rpartition(".")[0]]
        self._undo.append((None, name, sys.modules.get(name, _ABSENT)))
        sys.modules[name] = module
        self.set(package, name.rpartition(".")[2], module)

    def take_back(self) -> None:
        """Leaves everything as it was."""
        while self._undo:
            holder, name, before = self._undo.pop()
            if holder is None:
                sys.modules.pop(name, None)
                if before is not _ABSENT:
                    sys.modules[name] = before
            elif before is _ABSENT:
                delattr(holder, name)
            else:
                setattr(holder, name, before)


_installed: list[Patches] = []


def is_installed() -> bool:
    """Whether etude stands in for transformers' Trainer in this process."""
    return bool(_installed)


def install() -> None:
    """From now on, whoever imports the Trainer of transformers, or what belongs to it, gets etude's.

    Call it before the code that is to run on etude is imported. A second call does nothing.

    Raises:
        MissingPackageError: transformers is not installed.
        SetupError: a module has imported transformers' Trainer already; names it.
    """
    if is_installed():
        return
    transformers = require("transformers", "etude.compat")
    holders = [importlib.import_module(name) for name in names.HOLDERS]
    loaded = [sys.modules[name] for name in names.REPLACED if name in sys.modules]
    originals = {
        id(original): (name, original)
        for holder in [*holders, *loaded]
        for name, original in _originals(holder)
    }
    _refuse_late(originals)
    patches = Patches()
    for module in _modules_of_transformers():
        for attribute, value in list(vars(module).items()):
            if id(value) in originals:
                patches.set(module, attribute, names.own(originals[id(value)][0]))
    for name in names.REPLACED:
        if name not in sys.modules:
            patches.put_module(name, Stub(name))
    known = set(dir(transformers))
    for name in [n for n, _ in originals.values()] + [n for own in names.REPLACED.values() for n in own]:
        if name in known:
            patches.set(transformers, name, names.own(name))
    process_state.attach(patches)
    _installed.append(patches)


def uninstall() -> None:
    """Undoes `install()`. Classes that were derived from etude's in between stay so."""
    while _installed:
        _installed.pop().take_back()
    process_state.forget()


def _originals(holder: ModuleType) -> list[tuple[str, Any]]:
    return [(name, vars(holder)[name]) for name in names.replaceable(holder)]


def _modules_of_transformers() -> Iterator[ModuleType]:
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "transformers" and isinstance(module, ModuleType):
            yield module


def _refuse_late(originals: dict[int, tuple[str, Any]]) -> None:
    strict = {key: name for key, (name, _) in originals.items() if name in names.STRICT}
    late = {
        f"{module_name} ({strict[id(value)]})"
        for module_name, module in list(sys.modules.items())
        if module_name.split(".")[0] not in ("transformers", "etude")
        for value in list(getattr(module, "__dict__", {}).values())
        if id(value) in strict
    }
    if late:
        raise SetupError(
            f"transformers' classes are in use already, in {', '.join(sorted(late))}: call `etude.compat.install()` "
            "before these are imported, or run the script with `python -m etude.compat script.py`."
        )
