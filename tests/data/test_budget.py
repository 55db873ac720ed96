"""Does a token budget change which samples are padded together, and nothing else?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import etude
from etude.data.budget import BudgetSampler, CollateGroups, Groups, cut, evened, flattened
from etude.data.samplers import EpochSampler, GlobalBatchSampler
from etude.errors import ConfigurationError
from tests import helpers
from tests.properties import quick

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def samplers(
    lengths: list[int], budget: int, batch: int, steps: int, world: int, **more: Any
) -> list[BudgetSampler]:
    order = EpochSampler(lengths, seed=3)
    made = [
        BudgetSampler(order, lengths, batch, steps, budget, 4.0, rank=rank, world_size=world, **more)
        for rank in range(world)
    ]
    for sampler in made:
        sampler.set_epoch(1)
    return made


@quick
@given(
    lengths=LENGTHS,
    extra=st.integers(0, 60),
    batch=st.integers(1, 4),
    steps=st.integers(1, 3),
    world=st.sampled_from([1, 2, 4]),
    drop=st.booleans(),
)
def test_updates_have_the_samples_that_they_have_anyway(
    lengths: list[int], extra: int, batch: int, steps: int, world: int, drop: bool
) -> None:
    budget = max(lengths) + extra
    ranks = [list(s) for s in samplers(lengths, budget, batch, steps, world, drop_last=drop)]
    order = EpochSampler(lengths, seed=3)
    order.set_epoch(1)
    plain = GlobalBatchSampler(order, batch * world, drop)
    plain.set_epoch(1)
    items = list(plain)
    assert {len(rank) for rank in ranks} == {len(items)}
    for begin in range(0, len(items), steps):
        expected = sorted(i for item in items[begin : begin + steps] for i in item)
        windows = [[group for item in rank[begin : begin + steps] for group in item] for rank in ranks]
        assert sorted(i for window in windows for group in window for i in group) == expected
        assert len({len(window) for window in windows}) == 1
        for group in (group for window in windows for group in window if group):
            assert len(group) * max(lengths[i] for i in group) <= budget


@quick
@given(lengths=LENGTHS, step=st.integers(0, 20), steps=st.integers(1, 3), world=st.sampled_from([1, 2]))
def test_an_epoch_can_be_entered_at_any_item(lengths: list[int], step: int, steps: int, world: int) -> None:
    (sampler, *_) = samplers(lengths, 60, 2, steps, world)
    whole = list(sampler)
    sampler.seek(step)
    assert list(sampler) == whole[step:]
    assert len(sampler) == len(whole)
    flat = [i for item in whole[step : step + 2] for group in item for i in group]
    assert sampler.indices(step, step + 2) == flat


@quick
@given(lengths=LENGTHS, extra=st.integers(0, 60), launch=st.floats(0, 50))
def test_the_cut_is_the_cheapest(lengths: list[int], extra: int, launch: float) -> None:
    lengths = sorted(lengths[:9], reverse=True)
    budget = lengths[0] + extra
    found = cost(cut(lengths, budget, launch), lengths, launch)
    assert found == pytest.approx(min(cost(sizes, lengths, launch) for sizes in all_cuts(lengths, budget)))


def cost(sizes: list[int], lengths: list[int], launch: float) -> float:
    begins = [sum(sizes[:i]) for i in range(len(sizes))]
    return sum(launch + size * lengths[begin] for size, begin in zip(sizes, begins, strict=True))


def all_cuts(lengths: list[int], budget: int) -> list[list[int]]:
    if not lengths:
        return [[]]
    fitting = [n for n in range(1, len(lengths) + 1) if n * lengths[0] <= budget]
    return [[n, *rest] for n in fitting for rest in all_cuts(lengths[n:], budget)]


def test_many_samples_are_cut_too() -> None:
    lengths = sorted((i % 90 + 1 for i in range(1000)), reverse=True)
    sizes = cut(lengths, 200, 8.0)
    assert sum(sizes) == 1000
    assert cost(sizes, lengths, 0.0) <= 1.15 * sum(lengths)


def test_processes_get_equal_numbers_where_samples_suffice() -> None:
    assert evened([4, 3, 2], [9] * 9, 2) == [2, 2, 3, 2]
    assert evened([1, 1, 1], [9] * 3, 2) == [1, 1, 1]


def test_a_sample_that_is_too_long_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"max_tokens_per_batch=20.*30 tokens.*truncate"):
        samplers([5, 30], 20, 1, 1, 1)


def test_groups_become_micro_batches() -> None:
    groups = Groups(["a", "b", "c"])
    batches = CollateGroups(lambda samples: "".join(samples))([groups[[0, 2]], groups[[1]], groups[[]]])
    assert flattened([batches, "d"]) == ["ac", "b", None, "d"]


class Normalised(helpers.DictClassifier):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)


class InBatchNegatives(helpers.DictClassifier):
    samples_depend_on_each_other = True


def trainer(folder: Path, model: nn.Module, rows: Any, **fields: Any) -> etude.Trainer:
    arguments = helpers.training_arguments(
        etude, folder, per_device_train_batch_size=4, max_tokens_per_batch=30, **fields
    )
    return etude.Trainer(model, arguments, train_dataset=rows, data_collator=helpers.pad_texts)


@pytest.mark.parametrize(
    ("model", "reason"), [(Normalised(), "norm"), (InBatchNegatives(), "depend on each other")]
)
def test_models_whose_samples_depend_on_each_other_are_refused(
    model: nn.Module, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=f"max_tokens_per_batch.*{reason}.*Leave out"):
        trainer(tmp_path, model, helpers.text_rows(8)).train()


def test_a_stream_is_refused(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            return iter(helpers.text_rows(8).rows)

    with pytest.raises(ConfigurationError, match=r"max_tokens_per_batch.*map-style"):
        trainer(tmp_path, helpers.bert_classifier(), Stream(), max_steps=2).train()


def test_a_loader_of_ones_own_is_refused_rather_than_left_unbudgeted(tmp_path: Path) -> None:
    class Own(etude.Trainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(
                helpers.text_rows(8), batch_size=4, collate_fn=helpers.pad_texts
            )

    arguments = helpers.training_arguments(etude, tmp_path, max_tokens_per_batch=30)
    with pytest.raises(ConfigurationError, match=r"max_tokens_per_batch.*of your own"):
        Own(helpers.bert_classifier(), arguments, train_dataset=helpers.text_rows(8)).train()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_has_the_losses_that_it_has_without(workers: int, tmp_path: Path) -> None:
    rows, losses, padded = helpers.text_rows(30), [], []
    for budget in (None, 24):
        seen: list[int] = []

        def collate(samples: Any, seen: list[int] = seen) -> Any:
            batch = helpers.pad_texts(samples)
            seen.append(batch["input_ids"].numel())
            return batch

        torch.manual_seed(0)
        arguments = helpers.training_arguments(
            etude,
            tmp_path,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=3,
            logging_steps=1,
            num_train_epochs=1,
            max_tokens_per_batch=budget,
            dataloader_num_workers=workers,
        )
        made = etude.Trainer(helpers.bert_classifier(), arguments, train_dataset=rows, data_collator=collate)
        made.train()
        losses.append([row["loss"] for row in made.state.log_history if "loss" in row])
        padded.append(sum(seen))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    if not workers:
        assert padded[1] < 0.9 * padded[0]


def test_the_global_batch_size_sets_the_accumulation(tmp_path: Path) -> None:
    arguments = helpers.training_arguments(
        etude, tmp_path, per_device_train_batch_size=4, global_train_batch_size=12
    )
    assert arguments.gradient_accumulation_steps == 3
    with pytest.raises(ConfigurationError, match=r"global_train_batch_size=10.*multiple"):
        helpers.training_arguments(etude, tmp_path, per_device_train_batch_size=4, global_train_batch_size=10)
    with pytest.raises(ConfigurationError, match=r"global_train_batch_size=12.*only one"):
        helpers.training_arguments(
            etude,
            tmp_path,
            per_device_train_batch_size=4,
            global_train_batch_size=12,
            gradient_accumulation_steps=2,
        )
