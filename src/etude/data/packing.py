"""Several samples in one row: which of them share one, and the batches that are made of such rows.

Rows are the samples of a packed run: `per_device_train_batch_size` counts them. How many there are, and which lengths
come together in each, is found once, by best fit: the longest sample first, each into the fullest row that has room for
it. Which of the samples of a length takes which of its places is drawn anew for every epoch, and so is the order of the
rows. Both are functions of the seed and the epoch, so that all epochs have the same number of steps, every sample comes
once in each, and any step can be entered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, SequentialSampler

from etude.data.items import IGNORED
from etude.data.samplers import EpochSampler, GlobalBatchSampler
from etude.errors import ConfigurationError, DataError
from etude.models.attention import Isolation

REPLACED = ("attention_mask", "position_ids")  # by those of rows


def best_fit(lengths: Sequence[int], room: int) -> np.ndarray:
    """The row of each sample, shape [samples]; no row gets more than `room` tokens.

    Args:
        lengths: of the samples, falling.
        room: tokens of a row, at least the longest length.
    """
    rows = np.empty(len(lengths), dtype=np.int64)
    open_rows: list[list[int]] = [[] for _ in range(room + 1)]  # by the room that they have left
    has_rows = 0  # the bits of those that are not empty: the next one above a length is found at once
    count = 0
    for sample, length in enumerate(lengths):
        fitting = has_rows >> length
        if fitting:
            left = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[left].pop()
            if not open_rows[left]:
                has_rows ^= 1 << left
        else:
            left, row, count = room, count, count + 1
        rows[sample] = row
        open_rows[left - length].append(row)
        has_rows |= 1 << (left - length)
    return rows


class Packing:
    """Which samples share a row, in every epoch.

    Args:
        lengths: of all samples.
        room: tokens of a row; the length of the longest sample, if not given.
        seed: epoch e draws from a generator seeded with `seed + e`; None: nothing is drawn, samples stay in order as
            far as packing allows.

    Raises:
        ConfigurationError: a sample is longer than a row.
    """

    def __init__(self, lengths: Sequence[int], room: int | None, seed: int | None) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        longest = int(self.lengths.max(initial=0))
        self.room = longest if room is None else room
        if longest > self.room:
            too_long = int((self.lengths > self.room).sum())
            raise ConfigurationError(
                f"`packing_length={room}` is less than {too_long} of the {len(lengths)} samples have, the longest "
                f"{longest} tokens: raise it, or truncate the samples."
            )
        self.seed = seed
        falling = np.argsort(-self.lengths, kind="stable")
        by_place = best_fit(self.lengths[falling].tolist(), self.room)
        self._places = np.argsort(by_place, kind="stable")  # places of the falling order, row by row
        self._ends = np.cumsum(np.bincount(by_place)) if len(lengths) else np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def rows(self, epoch: int) -> list[np.ndarray]:
        """The samples of each row."""
        order = np.arange(len(self.lengths))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            order = torch.randperm(len(order), generator=generator).numpy()
        falling = order[np.argsort(-self.lengths[order], kind="stable")]
        rows = np.split(falling[self._places], self._ends[:-1])
        return rows if self.seed is not None else sorted(rows, key=lambda row: int(row.min()))


class PackedBatches(GlobalBatchSampler):
    """The rows of one process, step by step: each batch is a list of rows, each row a list of samples.

    Args:
        packing: which samples share a row.
        batch_size: rows of one process in one step.
        drop_last: leave out the rows that do not fill a last step.
        rank, world_size: the place of this process.
    """

    def __init__(
        self, packing: Packing, batch_size: int, drop_last: bool, rank: int = 0, world_size: int = 1
    ) -> None:
        numbers = range(len(packing))
        order = SequentialSampler(numbers) if packing.seed is None else EpochSampler(numbers, packing.seed)
        super().__init__(order, batch_size, drop_last, rank, world_size)
        self.packing = packing
        self._rows: tuple[int, list[np.ndarray]] | None = None

    def batches_from(self, step: int) -> Iterator[Any]:
        if self._rows is None or self._rows[0] != self.epoch:
            self._rows = self.epoch, self.packing.rows(self.epoch)
        rows = self._rows[1]
        for numbers in super().batches_from(step):
            yield [rows[number].tolist() for number in numbers]

    def indices(self, start: int, stop: int) -> list[int]:
        rows: list[Any] = super().indices(start, stop)
        return [index for row in rows for index in row]


class PackedRows(Dataset[list[Any]]):
    """A data set that is read row by row; the length is still that of its samples."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: Sequence[int] | int) -> list[Any]:
        samples = [row] if isinstance(row, int) else list(row)
        if hasattr(self.dataset, "__getitems__"):
            return list(self.dataset.__getitems__(samples))
        return [self.dataset[index] for index in samples]


ONLY_PAD = ("default_data_collator", "DataCollatorWithPadding", "DataCollatorWithFlattening")


def only_pads(collator: Any) -> bool:
    """Whether a collator does nothing but pad: one of etude's, or of the reference's, itself and no subclass."""
    kind = collator if isinstance(collator, FunctionType) else type(collator)
    return kind.__name__ in ONLY_PAD and kind.__module__.partition(".")[0] in ("etude", "transformers")


def samples_themselves(samples: list[Any]) -> list[Any]:
    """A collator that leaves it to `PackingCollator` to join the samples, as nothing has to be padded."""
    return samples


class PackingCollator:
    """Makes a batch of rows, from what a collator makes of their samples.

    Args:
        collator: pads samples to a batch, as for training without packing; or gives them as they are.
        isolation: what keeps the sequences of a row apart in the model's attention.
        room: tokens of a row.
        shifted: whether the model predicts each label from what is before it. The first label of each sample is ignored
            then; samples without labels are their own.
        padding_id: the token that fills rows up.
    """

    def __init__(
        self,
        collator: Callable[[list[Any]], Any],
        isolation: Isolation,
        room: int,
        shifted: bool,
        padding_id: int = 0,
    ) -> None:
        self.data_collator = collator
        self._isolation = isolation
        self._room = room
        self._shifted = shifted
        self._padding = {"input_ids": padding_id, "labels": IGNORED}

    def __call__(self, rows: list[list[Any]]) -> dict[str, Any]:
        """The batch.

        Raises:
            DataError: the samples have something that is not one for each token, or are longer than was told.
        """
        columns, lengths = self._joined([sample for row in rows for sample in row])
        if self._shifted and "labels" in columns:
            begins = lengths.cumsum(0) - lengths
            columns["labels"][begins[lengths > 0]] = IGNORED
        numbers = iter(lengths.tolist())
        by_row = [[next(numbers) for _ in row] for row in rows]
        if any(sum(row) > self._room for row in by_row):
            raise DataError(
                f"Samples that were to share a row of {self._room} tokens have more: the column of their lengths "
                "(`length_column_name`) is wrong, or the collator adds tokens."
            )
        if self._isolation.is_flat:
            by_row = [[length for row in by_row for length in row]]
        totals = torch.tensor([sum(row) for row in by_row])
        taken = torch.arange(int(totals.max()))[None] < totals[:, None]
        batch = {}
        for name, values in columns.items():
            batch[name] = torch.full(taken.shape, self._padding.get(name, 0), dtype=values.dtype)
            batch[name][taken] = values
        return {**batch, **self._isolation.inputs(by_row)}

    def _joined(self, samples: list[Any]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """What the samples have for each token, one sample after the other, and the samples' lengths."""
        batch = self.data_collator(samples)
        columns, lengths = _of_samples(batch) if isinstance(batch, list) else _of_batch(batch, samples)
        if self._shifted and "labels" not in columns:
            columns["labels"] = columns["input_ids"].clone()
        return columns, lengths


def _of_samples(samples: list[Any]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
    columns = {}
    for name in samples[0]:
        if name in REPLACED or samples[0][name] is None or isinstance(samples[0][name], str):
            continue
        values = [torch.as_tensor(sample[name]) for sample in samples]
        if any(value.shape != (length,) for value, length in zip(values, lengths, strict=True)):
            raise _not_per_token(name)
        joined = torch.cat(
            [value for value in values if len(value)] or values
        )  # an empty list becomes floats
        columns[name] = joined if joined.is_floating_point() and len(joined) else joined.to(torch.long)
    return columns, lengths


def _of_batch(batch: Mapping[str, Any], samples: list[Any]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    shape = batch["input_ids"].shape
    mask = batch.get("attention_mask")
    if mask is None or mask.shape != shape:
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        mask = torch.arange(shape[1])[None] < lengths[:, None]
    real = mask.bool()
    columns = {}
    for name, values in batch.items():
        if name not in REPLACED:
            if not isinstance(values, torch.Tensor) or values.shape != shape:
                raise _not_per_token(name)
            columns[name] = values[real]
    return columns, real.sum(1)


def _not_per_token(name: str) -> DataError:
    return DataError(
        f"`packing=True` needs one entry for each token, which {name!r} does not have: leave the column out, or set "
        "`packing=False`."
    )
