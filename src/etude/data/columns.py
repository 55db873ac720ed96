"""Which columns of a data set the model wants."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from etude.core.signature import base_model
from etude.errors import DataError
from etude.optional import is_instance_of

logger = logging.getLogger(__name__)

LABEL_COLUMNS = ("label", "label_ids")  # collators turn these into "labels"


def wanted_columns(model: nn.Module, label_names: list[str]) -> list[str] | None:
    """Columns that the model's forward takes, and those of labels; None where it takes any (`**kwargs`, `*args` only).

    A forward with named parameters *and* `**kwargs` is judged by its names, as in the reference; that of a compiled
    model, or one with adapters, by the names of the model inside.
    """
    parameters = inspect.signature(base_model(model).forward).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if not named:
        return None
    return [*named, *LABEL_COLUMNS, *(name for name in label_names if name not in named)]


def is_arrow_dataset(dataset: Any) -> bool:
    """Whether it is a `datasets.Dataset`, whose columns can be left out before they are read."""
    return is_instance_of(dataset, "datasets", "Dataset")


def without_unused_columns(dataset: Any, wanted: list[str], what: str, tell: bool = True) -> Any:
    """A `datasets.Dataset` with only the wanted columns; says which were left out.

    Args:
        dataset: the data set.
        wanted: names of the columns to keep.
        what: what the data is for, in messages.
        tell: whether to say it; the caller does so once.

    Raises:
        DataError: nothing would be left.
    """
    ignored = [name for name in dataset.column_names if name not in wanted]
    if not ignored:
        return dataset
    if len(ignored) == len(dataset.column_names):
        raise _nothing_left(what, ignored, wanted)
    if tell:
        logger.warning(
            "Columns of the %s set that the model does not take are left out: %s.", what, ", ".join(ignored)
        )
    return dataset.remove_columns(ignored)


def _nothing_left(what: str, ignored: list[str], wanted: list[str]) -> DataError:
    return DataError(
        f"No column of the {what} set is taken by the model: it has {', '.join(ignored)}, the "
        f"model takes {', '.join(wanted)}. Rename the columns, or set `remove_unused_columns=False` and use them "
        "in a data collator."
    )


class RemoveColumnsCollator:
    """Leaves unwanted keys out of each sample before collating, for data sets whose columns cannot be removed."""

    def __init__(
        self, collator: Callable[[list[Any]], Any], wanted: list[str], what: str, tell: bool = True
    ) -> None:
        self.data_collator = collator
        self.signature_columns = wanted
        self._wanted = frozenset(wanted)
        self._what = what
        self._told = not tell

    def __call__(self, features: list[Any]) -> Any:
        return self.data_collator([self._only_wanted(feature) for feature in features])

    def _only_wanted(self, feature: Any) -> Any:
        if not isinstance(feature, Mapping):
            return feature
        names = feature.keys()  # not `for name in feature`, which walks the rows of a TensorDict
        if self._wanted.issuperset(names):
            return feature
        ignored = [name for name in names if name not in self._wanted]
        if len(ignored) == len(names):
            raise _nothing_left(self._what, ignored, self.signature_columns)
        if not self._told:
            self._told = True
            logger.warning(
                "Columns of the %s set that the model does not take: %s.", self._what, ", ".join(ignored)
            )
        return {name: value for name, value in feature.items() if name in self._wanted}
