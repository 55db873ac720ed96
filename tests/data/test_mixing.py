"""A mix of data sets: exact shares at every point, every sample at most once in a pass, any position at once."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import log2
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import IterableDataset

from etude.core.world import World
from etude.data.loader import LoaderSettings, num_samples, train_loader
from etude.data.mixing import MixedDataset, divided, samples_read
from etude.data.samplers import GlobalBatchSampler
from etude.data.sources import fit_together
from etude.errors import ConfigurationError, DataError
from tests import helpers

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def sources(*sizes: int) -> dict[str, list[tuple[str, int]]]:
    return {name: [(name, i) for i in range(size)] for name, size in zip("abcdef", sizes, strict=False)}


def epochs(mix: MixedDataset, count: int, seed: int = 3, shuffle: bool = True) -> list[list[tuple[str, int]]]:
    order, result = mix.order(seed, shuffle), []
    for epoch in range(count):
        order.set_epoch(epoch)
        result.append([mix[index] for index in order])
    return result


@settings(max_examples=60, deadline=None)
@given(counts=SIZES, data=st.data())
def test_shares_hold_at_every_prefix(counts: list[int], data: Any) -> None:
    """Within log2(n) / 2 samples, and to the last at the end; a part is that of the whole."""
    total = sum(counts)
    whole = divided(counts, 0, total)
    assert [end for _, _, end in whole] == counts
    assert sorted(np.concatenate([places for places, _, _ in whole])) == list(range(total))
    depth = max(1, int(np.ceil(log2(len(counts))))) if len(counts) > 1 else 0
    for count, (places, _, _) in zip(counts, whole, strict=True):
        taken = np.cumsum(np.isin(np.arange(total), places))
        assert np.abs(taken - count * np.arange(1, total + 1) / total).max() <= depth / 2 + 1e-9
    start = data.draw(st.integers(0, total))
    for (places, _, _), (part, begin, end) in zip(whole, divided(counts, start, total), strict=True):
        assert (part + start).tolist() == places[places >= start].tolist()
        assert (begin, end) == ((places < start).sum(), len(places))


def test_positions_of_huge_mixes_are_exact() -> None:
    counts = [10**12 - 7, 3 * 10**11, 1]
    start = sum(counts) - 1000
    for count, (places, begin, end) in zip(counts, divided(counts, start, sum(counts)), strict=True):
        assert (end, len(places)) == (count, count - begin)


@settings(max_examples=50, deadline=None)
@given(sizes=SIZES, stop=st.sampled_from(["first_exhausted", "all", "steps"]), data=st.data())
def test_ledger(sizes: list[int], stop: str, data: Any) -> None:
    """Over epochs each source is read pass by pass, every sample once in each, at its share."""
    weights = {name: data.draw(st.integers(2, 9)) for name in sources(*sizes)}
    try:
        mix = MixedDataset(sources(*sizes), weights, stop=stop)
    except ConfigurationError:  # one of them would never be read
        lengths = [
            size * sum(weights.values()) / weights[name] for name, size in zip(weights, sizes, strict=True)
        ]
        assert stop != "all"
        assert min(*lengths, sum(sizes)) * min(weights.values()) < 2 * sum(weights.values())
        return
    read = epochs(mix, 3)
    assert all(Counter(name for name, _ in epoch) == mix.counts for epoch in read)
    for name, size in mix.sizes.items():
        share = Fraction(weights[name], sum(weights.values()))
        assert abs(mix.counts[name] - share * len(read[0])) < 1
        assert {"first_exhausted": mix.counts[name] <= size, "all": mix.counts[name] >= size}.get(stop, True)
        stream = [index for epoch in read for source, index in epoch if source == name]
        for begin in range(0, len(stream), size):
            passed = stream[begin : begin + size]
            assert len(set(passed)) == len(passed)


def test_by_default_an_epoch_is_every_sample_once_in_a_new_order() -> None:
    mix = MixedDataset(sources(30, 7, 13))
    first, second = epochs(mix, 2)
    everything = [sample for source in mix.sources.values() for sample in source]
    assert sorted(first) == sorted(second) == sorted(everything)
    of_a = [[index for name, index in epoch if name == "a"] for epoch in (first, second)]
    assert of_a[0] != of_a[1]
    assert of_a[0] != sorted(of_a[0])
    assert epochs(mix, 1, seed=4)[0] != first
    unshuffled = epochs(mix, 2, shuffle=False)
    assert [index for name, index in unshuffled[1] if name == "a"] == list(range(30))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"a": 90, "b": 10}),
        ({"temperature": 1}, {"a": 90, "b": 10}),
        ({"temperature": 1e9}, {"a": 10, "b": 10}),
        ({"temperature": 2, "stop": "steps"}, {"a": 75, "b": 25}),
        ({"weights": {"a": 0.7, "b": 0.3}}, {"a": 23, "b": 10}),
        ({"weights": {"b": 3, "a": 7}, "stop": "all"}, {"a": 90, "b": 39}),
        ({"weights": {"a": 1, "b": 1}, "stop": "all"}, {"a": 90, "b": 90}),
        ({"weights": {"a": 1, "b": 3}, "stop": "steps"}, {"a": 25, "b": 75}),
    ],
)
def test_counts_of_an_epoch(options: dict[str, Any], expected: dict[str, int]) -> None:
    assert MixedDataset(sources(90, 10), **options).counts == expected


@pytest.mark.parametrize("world", [1, 2, 4])
def test_global_batches_do_not_depend_on_processes_and_are_entered_anywhere(world: int) -> None:
    mix = MixedDataset(sources(40, 9, 17), {"a": 1, "b": 2, "c": 3}, stop="all")
    whole = list(GlobalBatchSampler(mix.order(1), 8, drop_last=False))
    ranks = []
    for rank in range(world):
        batches = GlobalBatchSampler(mix.order(1), 8 // world, False, rank, world)
        batches.seek(5)
        ranks.append(list(batches))
    assert len(whole) > 10
    for step, expected in enumerate(whole[5:]):
        found = [index for rank in ranks if step < len(rank) for index in rank[step]]
        assert found == expected


def test_samples_are_read_from_each_source_at_once() -> None:
    class Bulk(list):
        calls = 0

        def __getitems__(self, indices: list[int]) -> list[Any]:
            Bulk.calls += 1
            return [self[i] for i in indices]

    parts = sources(4, 3)
    mix = MixedDataset({"a": Bulk(parts["a"]), "b": parts["b"]})
    assert mix.__getitems__([0, 6, 3, 4]) == [("a", 0), ("b", 2), ("a", 3), ("b", 0)]
    assert Bulk.calls == 1
    assert [mix[i] for i in range(7)] == parts["a"] + parts["b"]
    with pytest.raises(IndexError, match="no sample 7"):
        mix[7]


@pytest.mark.parametrize("drop_last", [False, True])
def test_counts_of_what_was_read(drop_last: bool) -> None:
    """Those of the log, at any step of any epoch, from the position alone."""
    mix = MixedDataset(sources(21, 8), {"a": 1, "b": 1}, stop="all")
    loader = train_loader(
        mix,
        mix.order(0),
        list,
        batch_size=4,
        drop_last=drop_last,
        seed=0,
        world=World(),
        settings=LoaderSettings(),
    )
    assert num_samples(loader) == 42
    read: Counter[str] = Counter({"a": 0, "b": 0})
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        for step, batch in enumerate(loader):
            assert samples_read(loader, epoch, step) == read
            read.update(name for name, _ in batch)
    assert samples_read(loader, 2, 0) == read
    plain = train_loader(
        [1, 2],
        range(2),
        list,
        batch_size=1,
        drop_last=False,
        seed=0,
        world=World(),
        settings=LoaderSettings(),
    )
    assert samples_read(plain, 0, 1) == {}


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        yield 1


@pytest.mark.parametrize(
    ("parts", "options", "error", "culprit"),
    [
        ({}, {}, DataError, "empty"),
        ({"a": [1], "b": []}, {}, DataError, "'b'"),
        ({"a": [1], "b": Stream()}, {}, DataError, "'b' is a Stream"),
        (
            {"a": [1], "b": [2]},
            {"weights": {"a": 1.0}},
            ConfigurationError,
            "'a', the data sets are 'a', 'b'",
        ),
        ({"a": [1], "b": [2]}, {"weights": {"a": 1, "c": 1}}, ConfigurationError, "'c'"),
        ({"a": [1], "b": [2]}, {"weights": {"a": 1, "b": 0}}, ConfigurationError, "'b' must be above 0"),
        ({"a": [1]}, {"weights": {"a": 1}, "temperature": 2}, ConfigurationError, "not both"),
        ({"a": [1]}, {"stop": "never"}, ConfigurationError, "'never'"),
        ({"a": [1], "b": [2]}, {"weights": {"a": 9, "b": 1}}, ConfigurationError, "none of 'b'"),
    ],
)
def test_errors_name_the_culprit(
    parts: dict[str, Any], options: dict[str, Any], error: type[Exception], culprit: str
) -> None:
    with pytest.raises(error, match=culprit):
        MixedDataset(parts, **options)


def test_columns_differ_only_where_the_collator_copes() -> None:
    from etude import default_data_collator

    full = {"x": 1.0, "extra": 2.0, "labels": 0}
    same = {"one": helpers.Rows([full]), "two": helpers.Rows([full])}
    differ = {**same, "three": helpers.Rows([{"x": 1.0, "labels": 1}])}
    fit_together(same, default_data_collator, None)
    fit_together(differ, default_data_collator, ["x", "labels"])
    fit_together(differ, lambda rows: {"x": [row["x"] for row in rows]}, None)
    with pytest.raises(
        DataError, match=r"'one' and 'three'.*'one' has extra, labels, x; 'three' has labels, x"
    ):
        fit_together(differ, default_data_collator, None)
    with pytest.raises(
        DataError, match="'three'"
    ):  # what the first row has decides: one way round, a column is lost
        fit_together(differ, lambda rows: {key: [row.get(key) for row in rows] for key in rows[0]}, None)
