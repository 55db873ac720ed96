"""Are neighbours of about the same length, in the reference's order and from any position?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.data.grouping import (
    DistributedLengthGroupedSampler,
    LengthGroupedEpochSampler,
    LengthGroupedSampler,
    get_length_grouped_indices,
)
from etude.data.samplers import GlobalBatchSampler
from etude.errors import ConfigurationError, DataError
from tests.properties import quick

some_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=90)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@quick
@given(some_lengths, st.integers(1, 7), st.sampled_from([None, 1, 3]), st.integers(0, 99))
def test_the_order_is_that_of_the_reference(
    lengths: list[int], batch: int, mult: int | None, seed: int
) -> None:
    """Also where lengths are equal, and in stretches that do not fill up."""
    from transformers import trainer_pt_utils as reference

    expected = reference.get_length_grouped_indices(lengths, batch, mult, generator(seed))
    assert get_length_grouped_indices(lengths, batch, mult, generator(seed)) == expected
    assert sorted(expected) == list(range(len(lengths)))
    torch.manual_seed(seed)
    expected = list(reference.LengthGroupedSampler(batch, lengths=lengths))
    torch.manual_seed(seed)
    assert list(LengthGroupedSampler(batch, lengths=torch.tensor(lengths))) == expected


@quick
@given(some_lengths, st.integers(1, 4), st.booleans(), st.integers(0, 9), st.integers(0, 2))
def test_shares_are_those_of_the_reference(
    lengths: list[int], world: int, drop: bool, seed: int, epoch: int
) -> None:
    from transformers import trainer_pt_utils as reference

    if len(lengths) < world:
        return
    for rank in range(world):
        made = [
            cls(2, num_replicas=world, rank=rank, seed=seed, drop_last=drop, lengths=lengths)
            for cls in (DistributedLengthGroupedSampler, reference.DistributedLengthGroupedSampler)
        ]
        for sampler in made:
            sampler.set_epoch(epoch)
        ours, theirs = map(list, made)
        assert ours == theirs
        assert len(made[0]) == len(made[1]) == len(ours)


def test_batches_have_little_padding_and_the_longest_sample_comes_first() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 640).tolist()
    order = list(LengthGroupedEpochSampler(8, lengths, seed=1))
    assert lengths[order[0]] == max(lengths)
    batches = [[lengths[i] for i in order[k : k + 8]] for k in range(0, 640, 8)]
    grouped = sum(8 * max(batch) for batch in batches)
    shuffled = sum(8 * max(lengths[k : k + 8]) for k in range(0, 640, 8))
    assert grouped < 1.15 * sum(lengths) < 0.7 * shuffled


@quick
@given(some_lengths, st.integers(1, 3), st.integers(1, 4), st.integers(0, 8), st.integers(0, 2))
def test_processes_share_one_order_that_any_step_can_be_entered_at(
    lengths: list[int], batch: int, world: int, step: int, epoch: int
) -> None:
    order = LengthGroupedEpochSampler(batch * world, lengths, seed=5)
    order.set_epoch(epoch)
    expected = list(order)
    assert expected != list(LengthGroupedEpochSampler(batch * world, lengths, seed=6)) or len(lengths) < 20
    shares = []
    for rank in range(world):
        batches = GlobalBatchSampler(
            LengthGroupedEpochSampler(batch * world, lengths, seed=5), batch, False, rank, world
        )
        batches.set_epoch(epoch)
        batches.seek(step)
        shares.append(list(batches))
    steps = max(map(len, shares))
    found = [index for k in range(steps) for share in shares if k < len(share) for index in share[k]]
    assert found == expected[step * batch * world :]


def test_lengths_are_read_where_they_are_not_given() -> None:
    rows = [{"ids": [0] * n, "input_ids": [0]} for n in (3, 1, 2)]
    for cls in (LengthGroupedSampler, DistributedLengthGroupedSampler):
        place: dict[str, Any] = {} if cls is LengthGroupedSampler else {"num_replicas": 1, "rank": 0}
        assert cls(2, rows, model_input_name="ids", **place).lengths == [3, 1, 2]
        assert cls(2, rows, **place).lengths == [1, 1, 1]
        with pytest.raises(ConfigurationError, match="dataset.*lengths"):
            cls(2, **place)
        with pytest.raises(DataError, match="'other' key"):
            cls(2, rows, model_input_name="other", **place)


def test_no_samples_have_no_order() -> None:
    assert get_length_grouped_indices([], 4) == []
