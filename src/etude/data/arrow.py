"""Batches out of Arrow's buffers: a `datasets.Dataset` of numbers, read and padded without making samples of it.

The loader's data set gives the numbers of rows in place of the rows, and its collator reads them in bulk. It makes the
very batch that the collator it stands for would make; where that is not certain it asks that one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from operator import index
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from etude.data.collators import bulk
from etude.data.collators.bulk import UnusualBatchError, batch_maker

logger = logging.getLogger(__name__)

WHOLE = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)) - {"uint64"}
NUMBERS = WHOLE | {"float", "double"}  # Arrow's names; anything else is left to the collator


def in_bulk(dataset: Any, collator: Any) -> tuple[Any, Any]:
    """The data set and the collator that a loader shall have: the given ones, or two that give the same batches faster.

    Faster it goes for a `datasets.Dataset` without format or transform whose columns are numbers or lists of whole
    numbers, and a collator that `batch_maker` knows.
    """
    if not _is_plain_table(dataset) or batch_maker(collator) is None:
        return dataset, collator
    if not all(_is_readable(dataset.data.column(name).type) for name in dataset.column_names):
        return dataset, collator
    return RowNumbers(dataset), BulkCollator(dataset, collator)


def _is_plain_table(dataset: Any) -> bool:
    """Whether it is a `datasets.Dataset`, no subclass, whose samples are what is in the table."""
    loaded = sys.modules.get("datasets")
    if loaded is None or type(dataset) is not getattr(loaded, "Dataset", None):
        return False
    return dataset._format_type is None and dataset._format_columns is None and not dataset._format_kwargs


def _is_readable(kind: Any) -> bool:
    if _is_list(kind):
        return str(kind.value_type) in WHOLE
    return str(kind) in NUMBERS


def _is_list(kind: Any) -> bool:
    return str(kind).startswith(("list<", "large_list<", "fixed_size_list<"))


class RowNumbers(Dataset[Any]):
    """A data set that gives a batch of row numbers; in every other way it is the data set inside."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitems__(self, indices: Iterable[Any]) -> list[int]:
        return [index(row) for row in indices]

    def __getitem__(self, key: Any) -> Any:
        return self._dataset[key]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        if (
            name.startswith("__") or name == "_dataset"
        ):  # copying and pickling look these up before they exist
            raise AttributeError(name)
        return getattr(self._dataset, name)


class BulkCollator:
    """Makes batches of row numbers; samples it hands on to the collator.

    The first batch of each process is made both ways. Should they differ, the collator makes all others, too.

    Args:
        dataset: what the numbers are rows of.
        collator: what says how batches look.
    """

    def __init__(self, dataset: Any, collator: Any) -> None:
        self.dataset = dataset
        self.collator = collator
        self._reader: BatchReader | None = None
        self._is_trusted: bool | None = None

    def __call__(self, features: list[Any]) -> Any:
        if not isinstance(features[0], int):
            return self.collator(features)
        if self._is_trusted is False:
            return self._ordinary(features)
        try:
            batch = self._read(features)
        except UnusualBatchError:
            return self._ordinary(features)
        return batch if self._is_trusted else self._checked(batch, features)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open: a loading process opens the table itself."""
        return {**self.__dict__, "_reader": None, "_is_trusted": None}

    def _read(self, rows: list[int]) -> Any:
        if self._reader is None:
            self._reader = BatchReader(self.dataset, self.collator)
        return self._reader.batch(rows)

    def _ordinary(self, rows: list[int]) -> Any:
        return self.collator(self.dataset.__getitems__(rows))

    def _checked(self, batch: Any, rows: list[int]) -> Any:
        expected = self._ordinary(rows)
        self._is_trusted = are_same(batch, expected)
        if not self._is_trusted:
            logger.info(
                "%s makes other batches than expected: it reads sample by sample.",
                type(self.collator).__name__,
            )
        return expected


class BatchReader:
    """The columns of a table, open, and what makes batches of their rows."""

    def __init__(self, dataset: Any, collator: Any) -> None:
        make = batch_maker(collator)
        if make is None:
            raise UnusualBatchError
        self._make = make
        self._dataset = dataset
        self._order = None if dataset._indices is None else Rows(dataset._indices.column(0))
        self._columns = {name: Rows(dataset.data.column(name)) for name in dataset.column_names}
        first = next(iter(self._columns.values()), None)
        for column in self._columns.values():
            if first is not None and np.array_equal(column.begins, first.begins):
                column.begins = first.begins  # the same object: rows are looked for once

    def batch(self, rows: list[int]) -> Any:
        """The batch of these rows of the data set.

        Raises:
            UnusualBatchError: only the collator can make it.
        """
        places = np.array(rows)
        if not _is_plain_table(self._dataset) or places.min() < 0 or places.max() >= len(self._dataset):
            raise UnusualBatchError
        if self._order is not None:  # after shuffling, selecting, sorting
            found = self._order.read(*located(self._order.begins, places))
            places = np.asarray(found).astype(np.int64)
        where: dict[int, tuple[list[int], list[int]]] = {}
        columns = {}
        for name, column in self._columns.items():
            key = id(column.begins)
            if key not in where:
                where[key] = located(column.begins, places)
            columns[name] = column.read(*where[key])
        return self._make(columns)


def located(begins: np.ndarray, places: np.ndarray) -> tuple[list[int], list[int]]:
    """Of each row, the number of the chunk that it is in, and its place there."""
    numbers = begins.searchsorted(places, side="right") - 1
    return numbers.tolist(), (places - begins[numbers]).tolist()


class Rows:
    """Reads rows out of one column of a table, without copying its chunks.

    Args:
        column: a `pyarrow.ChunkedArray` of numbers or of lists of numbers.

    Attributes:
        begins: the number of the first row of each chunk.
    """

    def __init__(self, column: Any) -> None:
        self._column = column
        self._is_list = _is_list(column.type)
        sizes = [len(chunk) for chunk in column.iterchunks()]
        self.begins = np.cumsum([0, *sizes[:-1]])
        self._open: dict[int, Any] = {}

    def read(self, numbers: list[int], places: list[int]) -> bulk.Column:
        """The values at these places of the chunks with these numbers.

        Raises:
            UnusualBatchError: there are missing values near them.
        """
        chunks = self._open
        for number in numbers:
            if number not in chunks:
                chunk = self._column.chunk(number)
                chunks[number] = ListChunk(chunk) if self._is_list else _numbers(chunk)
        found = [chunks[number][place] for number, place in zip(numbers, places, strict=True)]
        return found if self._is_list else np.array(found)


class ListChunk:
    """Lists of one chunk: where each begins, and the values of all."""

    def __init__(self, chunk: Any) -> None:
        if chunk.null_count:
            raise UnusualBatchError
        size = getattr(chunk.type, "list_size", None)
        if size is None:
            self._offsets = chunk.offsets.to_numpy()
        else:
            self._offsets = (np.arange(len(chunk) + 1) + chunk.offset) * size
        self._values = _numbers(chunk.values)

    def __getitem__(self, place: int) -> np.ndarray:
        row: np.ndarray = self._values[self._offsets[place] : self._offsets[place + 1]]
        return row


def _numbers(array: Any) -> np.ndarray:
    """A view of numbers."""
    if array.null_count:
        raise UnusualBatchError
    view: np.ndarray = array.to_numpy(zero_copy_only=True)
    return view


def are_same(batch: Any, other: Any) -> bool:
    """Whether two batches have the same type, keys, kinds of numbers and values."""
    if type(batch) is not type(other):
        return False
    if isinstance(batch, Mapping):
        return list(batch) == list(other) and all(are_same(batch[key], other[key]) for key in batch)
    if isinstance(batch, torch.Tensor):
        return batch.dtype == other.dtype and torch.equal(batch, other)
    if isinstance(batch, np.ndarray):
        return batch.dtype == other.dtype and np.array_equal(batch, other)
    return bool(batch == other)
