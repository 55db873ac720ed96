"""Third-party packages that are imported only when they are needed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from etude.errors import MissingPackageError


def require(package: str, purpose: str, install: str | None = None) -> ModuleType:
    """Imports `package`, or says what it is needed for and how to install it.

    Args:
        package: dotted module name.
        purpose: what needs it, as the subject of the sentence ("report_to='tensorboard'").
        install: the name to install, where it is not the first part of `package`.

    Raises:
        MissingPackageError: the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        name = install or package.partition(".")[0]
        raise MissingPackageError(f"{purpose} needs the package {name!r}: pip install {name}") from error


def is_instance_of(value: Any, module: str, *names: str) -> bool:
    """Whether `value` is an instance of one of the classes `names` of `module`, without importing it.

    An object can only be an instance of a class whose module is loaded already.
    """
    loaded = sys.modules.get(module)
    if loaded is None:
        return False
    classes = tuple(c for c in (getattr(loaded, name, None) for name in names) if isinstance(c, type))
    return isinstance(value, classes)
