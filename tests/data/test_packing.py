"""Which samples share a row, and what a batch of rows is."""

from __future__ import annotations

import pickle
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etude import DataCollatorWithPadding, default_data_collator
from etude.data.packing import (
    PackedBatches,
    PackedRows,
    Packing,
    PackingCollator,
    best_fit,
    only_pads,
    samples_themselves,
)
from etude.errors import ConfigurationError, DataError
from etude.models.attention import Isolation
from tests import helpers

lengths = st.lists(st.integers(0, 12), min_size=1, max_size=60)


@given(lengths, st.integers(12, 30))
def test_best_fit_takes_the_fullest_row_with_room(sizes: list[int], room: int) -> None:
    """The rule itself, told row by row."""
    falling = sorted(sizes, reverse=True)
    left: list[int] = []
    for length, row in zip(falling, best_fit(falling, room), strict=True):
        fitting = [space for space in left if space >= length]
        if row == len(left):
            assert fitting == []
            left.append(room)
        else:
            assert left[row] == min(fitting)
        left[row] -= length
    assert min(left) >= 0


@settings(max_examples=60)
@given(lengths, st.integers(12, 30), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.data())
def test_every_sample_comes_once_in_each_epoch_from_any_step_on(
    sizes: list[int], room: int, batch_size: int, world: int, drawn: bool, data: Any
) -> None:
    """On any number of processes, of which each has as many steps, and no row has more than its room."""
    packing = Packing(sizes, room, 7 if drawn else None)
    ranks = [PackedBatches(packing, batch_size, False, rank, world) for rank in range(world)]
    for epoch in (0, 1):
        for rank in ranks:
            rank.set_epoch(epoch)
        seen = [index for rank in ranks for index in rank.indices(0, len(rank))]
        assert sorted(seen) == list(range(len(sizes)))
        rows = [row for rank in ranks for batch in rank for row in batch]
        assert all(sum(sizes[index] for index in row) <= room for row in rows)
        assert len(rows) == len(packing)
        start = data.draw(st.integers(0, len(ranks[0])))
        whole = [list(rank.batches_from(0))[start:] for rank in ranks]
        assert [list(rank.batches_from(start)) for rank in ranks] == whole


@pytest.mark.parametrize("world", [2, 4])
def test_a_step_has_the_same_rows_on_any_number_of_processes(world: int) -> None:
    sizes = np.random.default_rng(0).integers(1, 20, size=100).tolist()
    packing = Packing(sizes, 32, 0)
    alone = list(PackedBatches(packing, 4, False).batches_from(0))
    ranks = [PackedBatches(packing, 4 // world, False, rank, world).batches_from(0) for rank in range(world)]
    joined = [list(chain.from_iterable(shares)) for shares in zip(*ranks, strict=True)]
    assert joined == alone


def test_an_epoch_draws_new_companions_and_a_new_order() -> None:
    packing = Packing([3, 5] * 20, 8, 0)
    first, again, second = ([row.tolist() for row in packing.rows(epoch)] for epoch in (0, 0, 1))
    assert first == again
    assert len(first) == 20
    assert {tuple(row) for row in first} != {tuple(row) for row in second}
    batches = PackedBatches(packing, 20, False)
    orders = []
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        orders.append([first.index(row) if row in first else row for row in next(batches.batches_from(0))])
    assert orders[0] != list(range(20))
    assert orders[0] != orders[1]


def test_rows_in_order_of_their_first_samples() -> None:
    """With `train_sampling_strategy="sequential"`."""
    rows = [row.tolist() for row in Packing([2, 6, 3, 8, 5], 8, None).rows(3)]
    assert rows == [[1, 0], [4, 2], [3]]


def test_rows_are_nearly_full() -> None:
    sizes = np.random.default_rng(0).lognormal(3, 1, size=2000).clip(1, 256).astype(int).tolist()
    packing = Packing(sizes, 256, 0)
    assert sum(sizes) / (len(packing) * 256) > 0.99


def test_the_longest_sample_is_a_row_where_no_length_is_given() -> None:
    assert Packing([4, 9, 2], None, 0).room == 9
    with pytest.raises(ConfigurationError, match=r"packing_length=8.*1 of the 3 samples.*9 tokens: raise it"):
        Packing([4, 9, 2], 8, 0)


POSITIONS = Isolation("positions")
SAMPLES = [[{"input_ids": [5, 6, 7]}, {"input_ids": [8, 9]}], [{"input_ids": [4]}]]


def test_rows_of_a_causal_model() -> None:
    """Positions begin anew, nothing is predicted across samples, padding is alone."""
    batch = PackingCollator(samples_themselves, POSITIONS, 6, shifted=True, padding_id=1)(SAMPLES)
    assert {name: values.tolist() for name, values in batch.items()} == {
        "input_ids": [[5, 6, 7, 8, 9], [4, 1, 1, 1, 1]],
        "labels": [[-100, 6, 7, -100, 9], [-100] * 5],
        "position_ids": [[0, 1, 2, 0, 1], [0, 0, 0, 0, 0]],
    }


def test_a_mask_lets_each_token_see_its_own_sample_and_padding_itself() -> None:
    batch = PackingCollator(samples_themselves, Isolation("mask", 2), 6, shifted=False)(SAMPLES)
    assert "labels" not in batch
    assert batch["position_ids"][0].tolist() == [2, 3, 4, 2, 3]
    assert batch["attention_mask"].shape == (2, 1, 5, 5)
    blocks = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).bool()
    assert torch.equal(batch["attention_mask"][0, 0], blocks)
    assert torch.equal(batch["attention_mask"][1, 0], torch.eye(5).bool())
    causal = Isolation("mask", causal=True, additive=True).inputs([[3, 2]])["attention_mask"][0, 0]
    assert torch.equal(causal == 0, blocks.tril())
    assert causal[~blocks].max() < -1e38


def test_without_padding_all_samples_are_in_one_row() -> None:
    """As FlashAttention takes them."""
    batch = PackingCollator(samples_themselves, Isolation("lengths"), 6, shifted=True)(SAMPLES)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 4]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9, -100]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0]]
    assert batch["cu_seq_lens_q"].tolist() == batch["cu_seq_lens_k"].tolist() == [0, 3, 5, 6]
    assert batch["max_length_q"] == 3


def test_a_collator_of_ones_own_makes_the_tokens() -> None:
    """Whatever it draws or adds; only its padding is left out."""
    rows = [[dict(row) for row in helpers.sequence_rows(5).rows[:3]], helpers.sequence_rows(5).rows[3:]]
    batch = PackingCollator(helpers.pad_texts, POSITIONS, 40, shifted=True)(rows)
    plain = PackingCollator(samples_themselves, POSITIONS, 40, shifted=True)(rows)
    assert {name: values.tolist() for name, values in batch.items()} == {
        name: values.tolist() for name, values in plain.items()
    }


def test_what_is_not_there_for_each_token_is_refused() -> None:
    classes = [[{"input_ids": [5, 6], "labels": 1}]]
    for collator in (samples_themselves, helpers.pad_texts):
        with pytest.raises(DataError, match=r"one entry for each token, which 'labels' does not have"):
            PackingCollator(collator, POSITIONS, 8, shifted=False)(classes)


def test_rows_that_are_longer_than_was_told_are_refused() -> None:
    with pytest.raises(DataError, match="share a row of 4 tokens have more"):
        PackingCollator(samples_themselves, POSITIONS, 4, shifted=False)(SAMPLES)


def test_which_collators_only_pad() -> None:
    class Own(DataCollatorWithPadding):
        pass

    assert only_pads(default_data_collator)
    assert only_pads(DataCollatorWithPadding(None))
    assert not only_pads(Own(None))
    assert not only_pads(helpers.pad_texts)


def test_rows_are_read_at_once_where_the_data_can() -> None:
    class Table(helpers.Rows):
        def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
            return [{"at once": index} for index in indices]

    assert PackedRows(Table([{}] * 4))[[2, 0]] == [{"at once": 2}, {"at once": 0}]
    rows = PackedRows(helpers.sequence_rows(4))
    assert rows[[2, 0]] == [rows.dataset[2], rows.dataset[0]]
    assert rows[3] == [rows.dataset[3]]
    assert len(pickle.loads(pickle.dumps(rows))) == 4
