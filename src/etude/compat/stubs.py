"""Modules that stand in for `transformers.trainer` and `transformers.trainer_seq2seq`, whose files are not executed."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import logging
import sys
from types import ModuleType
from typing import Any

from etude.compat import names

logger = logging.getLogger(__name__)
# Where the names really live that people import from `transformers.trainer`.
_HOMES = (*names.HOLDERS, "transformers.trainer_optimizer", "transformers.optimization", "transformers.utils")


class Stub(ModuleType):
    """A module with etude's names; any other is looked for where it lives, and last in transformers' own file."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"etude's stand-in for {name}.")
        self.__package__ = name.rpartition(".")[0]
        self.__spec__ = importlib.machinery.ModuleSpec(name, loader=None, origin="etude.compat")
        for own in names.REPLACED[name]:
            setattr(self, own, names.own(own))
        if name == "transformers.trainer":
            vars(self).update(names.CONSTANTS, logger=logging.getLogger(name))
            self.DEFAULT_CALLBACKS = [names.own("DefaultFlowCallback")]
            self.DEFAULT_PROGRESS_CALLBACK = names.own("ProgressCallback")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for home in _HOMES:
            module = importlib.import_module(home)
            if name in vars(module):
                return getattr(module, name)
        value = getattr(self._reference(name), name)
        setattr(self, name, value)
        return value

    def _reference(self, wanted: str) -> ModuleType:
        """The file of transformers under another name: what is not etude's is said."""
        alias = f"{self.__package__}._reference_{self.__name__.rpartition('.')[2]}"
        if alias not in sys.modules:
            logger.warning(
                "%s.%s is not etude's: transformers' own file is loaded for it.", self.__name__, wanted
            )
            package = importlib.import_module(str(self.__package__))
            path = f"{package.__path__[0]}/{self.__name__.rpartition('.')[2]}.py"
            spec = importlib.util.spec_from_file_location(alias, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[alias] = module
            spec.loader.exec_module(module)
        return sys.modules[alias]
