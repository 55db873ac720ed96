"""How long the samples of a data set are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from etude.core.rng import undisturbed
from etude.data.columns import is_arrow_dataset
from etude.errors import DataError
from etude.optional import require

logger = logging.getLogger(__name__)

DEFAULT_COLUMN = "length"


def sample_lengths(dataset: Any, column: str | None = None, input_name: str | None = None) -> list[int]:
    """The length of each sample: as a column of the data set has it, or counted by reading all samples once.

    Args:
        dataset: a map-style data set whose samples are mappings.
        column: key of the lengths; "length" may be missing.
        input_name: key of what is counted where there is no such column; "input_ids" if not given.

    Raises:
        DataError: the samples have neither, or not the column that is asked for.
    """
    input_name = input_name or "input_ids"
    is_table = is_arrow_dataset(dataset)
    with undisturbed():  # reading may draw random numbers, and training must not notice
        first = None if is_table else dataset[0]
        keys = list(dataset.column_names) if is_table else list(first) if isinstance(first, Mapping) else []
        if column in keys:
            plain = dataset.with_format(None) if is_table else dataset
            return [int(length) for length in (plain[column] if is_table else _each(plain, column))]
        if column not in (None, DEFAULT_COLUMN):
            raise DataError(
                f"`length_column_name={column!r}` is not a column of the data: it has {', '.join(keys) or 'none'}."
            )
        counted = _counted_in_table(dataset, input_name) if is_table and input_name in keys else None
        if counted is not None:
            return counted
        first = dataset[0] if is_table else first
        if not isinstance(first, Mapping) or input_name not in first:
            raise DataError(
                "Can only automatically infer lengths for data sets whose items are dictionaries with an "
                f"'{input_name}' key: add a column with the lengths and name it in `length_column_name`."
            )
        logger.info("Reading all %d samples once for their lengths.", len(dataset))
        return [len(value) for value in _each(dataset, input_name)]


def _each(dataset: Any, key: str | None) -> Iterator[Any]:
    return (dataset[i][key] for i in range(len(dataset)))


def _counted_in_table(dataset: Any, name: str) -> list[int] | None:
    """Lengths of lists without making them Python's; None where they are made as samples are read."""
    if dataset.format["type"] == "custom":
        return None
    values = dataset.select_columns([name]).with_format("arrow")[:][name]
    if not str(values.type).startswith(("list", "large_list", "fixed_size_list")):
        return None
    arrow = require("pyarrow.compute", "reading lengths from a table", install="pyarrow")
    return [int(length) for length in arrow.list_value_length(values).to_pylist()]
