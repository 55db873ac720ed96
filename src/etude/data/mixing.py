"""Several data sets trained on as one, in chosen shares.

Which data set a position of the epoch comes from, and which of its samples it is, are functions of the seed, the epoch
and the position alone. A data set goes on where the epoch before has left it: it is read in passes, each in a new
order, and no sample comes twice in a pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from etude.core.rng import seed_for
from etude.data.loader import has_length, is_iterable
from etude.data.order import permuted
from etude.data.samplers import BLOCK, EpochOrder
from etude.errors import ConfigurationError, DataError

Indices = npt.NDArray[np.int64]
STOPS = ("first_exhausted", "all", "steps")


class MixedDataset(Dataset[Any]):
    """Several map-style data sets, and how often each of them is read.

    Its samples are those of all sources, one source after the other; `order` is the order in which they are trained on.

    Args:
        sources: the data sets by name.
        weights: the share of each in what is read, in any unit; their sizes if not given.
        temperature: instead of weights: the shares are the sizes to the power of 1 / temperature. 1 leaves the sizes, a
            large one makes all shares the same.
        stop: when an epoch ends: "first_exhausted", before a source would have to be read again; "all", when each has
            been read at least once; "steps", after as many samples as there are: training ends by `max_steps`.

    Attributes:
        counts: samples that an epoch has of each source.

    Raises:
        ConfigurationError: the weights do not fit the sources, or a source would never be read.
        DataError: a source is empty, or a stream.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        weights: Mapping[str, float] | None = None,
        temperature: float | None = None,
        stop: str = "first_exhausted",
    ) -> None:
        self.sources = dict(sources)
        self.stop = stop
        self.sizes = _sizes(self.sources)
        shares = _shares(self.sizes, weights, temperature)
        self.counts = _counts(self.sizes, shares, stop)
        self._names = list(self.sources)
        self._begins = [0, *accumulate(self.sizes.values())]

    def with_sources(self, sources: Mapping[str, Any]) -> MixedDataset:
        """The same mix of data sets with the same samples, in another form."""
        other = copy(self)
        other.sources = dict(sources)
        return other

    def __len__(self) -> int:
        return self._begins[-1]

    def __getitem__(self, index: int) -> Any:
        source, inside = self.locate(index)
        return self.sources[source][inside]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Samples, those of one source read at once where it can do so."""
        places: dict[str, list[tuple[int, int]]] = {}
        for position, index in enumerate(indices):
            source, inside = self.locate(index)
            places.setdefault(source, []).append((position, inside))
        samples: list[Any] = [None] * len(indices)
        for name, found in places.items():
            read = _read(self.sources[name], [inside for _, inside in found])
            for (position, _), sample in zip(found, read, strict=True):
                samples[position] = sample
        return samples

    def locate(self, index: int) -> tuple[str, int]:
        """Name of the source that has this sample, and its index there."""
        if not 0 <= index < len(self):
            raise IndexError(f"The mix has {len(self)} samples, there is no sample {index}.")
        number = int(np.searchsorted(self._begins, index, side="right")) - 1
        return self._names[number], index - self._begins[number]

    def order(self, seed: int, shuffle: bool = True) -> MixedOrder:
        """The order in which the samples of an epoch are trained on.

        Args:
            shuffle: read each source in a new order in each pass, rather than in its own.
        """
        return MixedOrder(self.sizes, self.counts, seed, shuffle)


class MixedOrder(EpochOrder, Sampler[int]):
    """Positions of an epoch, as indices into the samples of all sources one after the other.

    Args:
        sizes: samples of each source, by name.
        counts: samples of each source in one epoch, by name.
        seed, shuffle: of the order inside of each source.
    """

    def __init__(
        self, sizes: Mapping[str, int], counts: Mapping[str, int], seed: int, shuffle: bool = True
    ) -> None:
        self.names = list(sizes)
        self.sizes, self.counts = list(sizes.values()), [counts[name] for name in sizes]
        self.shuffle = shuffle
        self._seeds = [seed_for(seed, number) for number in range(len(sizes))]
        self._begins = [0, *accumulate(self.sizes)]

    def __len__(self) -> int:
        return sum(self.counts)

    def order(self) -> torch.Tensor:
        """Indices of the whole epoch, shape [samples of an epoch]."""
        return torch.cat(list(self.blocks(0, BLOCK)))

    def blocks(self, start: int, size: int) -> Iterator[torch.Tensor]:
        """The indices of the epoch from position `start` on, `size` at a time."""
        for begin in range(start, len(self), size):
            yield torch.from_numpy(self._part(begin, min(begin + size, len(self))))

    def consumed(self, position: int) -> dict[str, int]:
        """How many of the first samples of an epoch come from each source."""
        parts = divided(self.counts, position, position)
        return {name: begin for name, (_, begin, _) in zip(self.names, parts, strict=True)}

    def _part(self, start: int, stop: int) -> Indices:
        indices = np.empty(stop - start, dtype=np.int64)
        for source, (places, begin, end) in enumerate(divided(self.counts, start, stop)):
            done = self.epoch * self.counts[source]
            indices[places] = self._begins[source] + self._read(source, done + begin, done + end)
        return indices

    def _read(self, source: int, begin: int, end: int) -> Indices:
        """What is read of a source between two counts of samples since the beginning of the run."""
        size = self.sizes[source]
        parts = [np.empty(0, dtype=np.int64)]
        while begin < end:
            number, inside = divmod(begin, size)
            until = min(size, inside + end - begin)
            if self.shuffle:
                parts.append(permuted(size, self._seeds[source], number, inside, until))
            else:
                parts.append(np.arange(inside, until, dtype=np.int64))
            begin += until - inside
        return np.concatenate(parts)


def divided(counts: Sequence[int], start: int, stop: int) -> list[tuple[Indices, int, int]]:
    """The positions from `start` to `stop` of an epoch, dealt to the sources as evenly as can be.

    The sources are halved, and the positions are dealt to the two halves by their numbers of samples, rounded; then so
    is each half. Of two sources each has its share of every beginning of the epoch to half a sample; of n, to log2(n)/2
    samples.

    Args:
        counts: samples of each source; together, the length of the epoch.
        start, stop: less than 2^63 / (samples of the epoch) apart.

    Returns:
        For each source, the positions that it gets, counted from `start`, and how many samples of it come before
        `start` and before `stop`.
    """
    return _divided(counts, start, stop, np.arange(stop - start, dtype=np.int64))


def _divided(counts: Sequence[int], start: int, stop: int, places: Indices) -> list[tuple[Indices, int, int]]:
    if len(counts) == 1:
        return [(places, start, stop)]
    half = len(counts) // 2
    share, whole = sum(counts[:half]), sum(counts)
    # of the first m positions, (m * share + whole / 2) // whole; exact, as only the distance from `start` is an array
    before, rest = divmod(start * share + whole // 2, whole)
    reached = before + (rest + np.arange(stop - start + 1, dtype=np.int64) * share) // whole
    is_left = np.diff(reached) > 0
    begin, end = int(reached[0]), int(reached[-1])
    left = _divided(counts[:half], begin, end, places[is_left])
    return left + _divided(counts[half:], start - begin, stop - end, places[~is_left])


def samples_read(loader: Any, epoch: int, steps: int) -> dict[str, int]:
    """How many samples of each source all processes have read since the beginning of the run; nothing without a mix.

    Args:
        loader: of one process.
        epoch: the epoch in progress.
        steps: batches of it that are done.
    """
    batches = getattr(loader, "batch_sampler", None)
    order = getattr(batches, "sampler", None)
    if batches is None or not isinstance(order, MixedOrder):
        return {}
    group = batches.batch_size * batches.world_size
    now = order.consumed(min(steps * group, len(order)))
    whole = order.consumed(min(len(batches) * group, len(order)))
    return {name: epoch * whole[name] + now[name] for name in order.names}


def is_mix(dataset: Any) -> bool:
    """Whether it is a dictionary of data sets by name; one with numbers as keys is a map-style data set itself."""
    return isinstance(dataset, dict) and bool(dataset) and all(isinstance(name, str) for name in dataset)


def _sizes(sources: Mapping[str, Any]) -> dict[str, int]:
    if not sources:
        raise DataError("The mix of training data is empty: give at least one data set by its name.")
    sizes = {}
    for name, source in sources.items():
        if is_iterable(source) or not has_length(source):
            raise DataError(
                f"Only map-style data sets can be mixed, {name!r} is a {type(source).__name__} without a length or "
                "without indices: load it into memory, or mix the streams beforehand."
            )
        sizes[name] = len(source)
        if sizes[name] == 0:
            raise DataError(f"The data set {name!r} of the mix has no sample: leave it out.")
    return sizes


def _shares(
    sizes: Mapping[str, int], weights: Mapping[str, float] | None, temperature: float | None
) -> dict[str, Fraction]:
    """The share of each source; exact, so that counts do not depend on how floats are rounded."""
    if weights is not None and temperature is not None:
        raise ConfigurationError("A mix takes weights or a temperature, not both.")
    if weights is not None and set(weights) != set(sizes):
        raise ConfigurationError(
            f"`mixing_weights` are given for {', '.join(map(repr, weights))}, the data sets are "
            f"{', '.join(map(repr, sizes))}: give one weight to each."
        )
    parts = {name: Fraction(size) for name, size in sizes.items()}
    if weights is not None:
        parts = {name: Fraction(str(weights[name])) for name in sizes}  # as it is written: 0.1 is a tenth
    elif temperature is not None and temperature != 1:
        parts = {name: Fraction(size ** (1 / temperature)) for name, size in sizes.items()}
    for name, part in parts.items():
        if part <= 0:
            raise ConfigurationError(
                f"The weight of {name!r} must be above 0: leave out a data set that is not read."
            )
    return {name: part / sum(parts.values()) for name, part in parts.items()}


def _counts(sizes: Mapping[str, int], shares: Mapping[str, Fraction], stop: str) -> dict[str, int]:
    """Samples of each source in an epoch: its share to a whole number, the largest remainders rounded up."""
    if stop not in STOPS:
        raise ConfigurationError(f"A mix can stop by {', '.join(STOPS)}, not by {stop!r}.")
    lasts = [sizes[name] / shares[name] for name in sizes]  # epochs of this length just exhaust that source
    if stop == "steps":
        length = sum(sizes.values())
    else:
        length = int(min(lasts)) if stop == "first_exhausted" else -int(-max(lasts) // 1)
    exact = {name: share * length for name, share in shares.items()}
    counts = {name: int(count) for name, count in exact.items()}
    by_remainder = sorted(counts, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: length - sum(counts.values())]:
        counts[name] += 1
    for name, count in counts.items():
        if count == 0:
            raise ConfigurationError(
                f"An epoch of {length} samples would have none of {name!r}: give it a larger weight, or choose "
                "`mixing_stop='all'`."
            )
    return counts


def _read(source: Any, indices: list[int]) -> list[Any]:
    if hasattr(source, "__getitems__"):
        return list(source.__getitems__(indices))
    return [source[index] for index in indices]
