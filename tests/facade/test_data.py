"""Does the Trainer load data as asked: in which order, which columns, with which processes?"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler, SequentialSampler

import etude
from etude.data.grouping import LengthGroupedEpochSampler
from etude.errors import DataError
from tests import helpers
from tests.contracts.resuming import CountingRows
from tests.parity.runner import GPT2, assert_same_rows, assert_same_weights, run_both

GROUPED, BALANCED = (
    {"train_sampling_strategy": "group_by_length"},
    {"train_sampling_strategy": "batch_rebalance"},
)


def trainer_of(tmp_path: Path, rows: Any, model: nn.Module | None = None, **arguments: Any) -> Any:
    torch.manual_seed(3)
    return etude.Trainer(
        helpers.gpt2_model() if model is None else model,
        helpers.training_arguments(etude, tmp_path, **arguments),
        data_collator=helpers.pad_texts,
        train_dataset=rows,
        eval_dataset=rows,
    )


# --- order --------------------------------------------------------------------------------------------------------


def test_samples_are_read_in_groups_of_about_the_same_length(tmp_path: Path) -> None:
    """Each epoch in the order of its sampler; what is sorted together are whole updates."""
    rows = CountingRows(helpers.sequence_rows(64).rows)
    trainer = trainer_of(tmp_path, rows, **GROUPED, gradient_accumulation_steps=2)
    sampler = trainer._get_train_sampler()
    assert isinstance(sampler, etude.LengthGroupedSampler)
    rows.read.clear()
    trainer.train()
    reading = rows.read[64:]  # after all have been read once for their lengths, the first one twice
    lengths = [len(row["input_ids"]) for row in rows.rows]
    expected = LengthGroupedEpochSampler(8, lengths, seed=7)
    for epoch in range(2):
        expected.set_epoch(epoch)
        assert reading[-64:] == list(expected) if epoch else reading[-128:-64] == list(expected)


@pytest.mark.parametrize("data_seed", [None, 5])
def test_the_order_depends_on_the_data_seed(data_seed: int | None, tmp_path: Path) -> None:
    rows = helpers.sequence_rows(32)
    for strategy in (GROUPED, BALANCED, {}):
        first = trainer_of(tmp_path, rows, **strategy, seed=5)._get_train_sampler()
        other = trainer_of(tmp_path, rows, **strategy, seed=6, data_seed=data_seed)._get_train_sampler()
        assert (list(first) == list(other)) is (data_seed == 5)


def test_balanced_micro_batches_make_the_same_updates(tmp_path: Path) -> None:
    """Unequal cuts of the same global batches: the weights are those of random sampling, to rounding."""
    runs = []
    for strategy in ({}, BALANCED):
        trainer = trainer_of(
            tmp_path, helpers.sequence_rows(38), **strategy, gradient_accumulation_steps=3, max_grad_norm=0.1
        )
        sizes = [batch["input_ids"].shape[0] for batch in trainer.get_train_dataloader()]
        assert (len(set(sizes[:9])) > 1) is bool(strategy)
        trainer.train()
        runs.append(trainer)
    assert runs[0].state.global_step == runs[1].state.global_step == 8
    assert helpers.relative_difference(*(helpers.weights_of(run.model) for run in runs)) < 1e-5


def test_balanced_training_equals_the_reference(tmp_path: Path) -> None:
    """The same samples in each update; the reference always draws them from seed 42."""
    case = GPT2.having("balanced", **BALANCED, gradient_accumulation_steps=2, seed=42)
    theirs, ours = run_both(case, tmp_path)
    assert_same_weights(ours.weights, theirs.weights)
    assert_same_rows(ours.log_history, theirs.log_history)


@pytest.mark.parametrize("strategy", [GROUPED, BALANCED], ids=lambda s: s["train_sampling_strategy"])
def test_lengths_come_from_the_column_that_the_model_does_not_take(strategy: Any, tmp_path: Path) -> None:
    rows = helpers.sequence_rows(16).rows
    lengths = list(range(16))
    table = datasets.Dataset.from_list([{**row, "tokens": n} for row, n in zip(rows, lengths, strict=True)])
    trainer = trainer_of(tmp_path, table, **strategy, length_column_name="tokens")
    loader = trainer.get_train_dataloader()
    assert loader.dataset.column_names == ["input_ids"]
    sampler = getattr(loader.batch_sampler, "sampler", loader.batch_sampler)
    assert sampler.lengths == lengths
    wrong = trainer_of(tmp_path, table, **strategy, length_column_name="n")
    with pytest.raises(DataError, match="length_column_name='n'.*tokens"):
        wrong.train()
    assert wrong.state.global_step == 0


def test_the_input_that_the_processor_names_is_counted(tmp_path: Path) -> None:
    class Processor:
        model_input_names = ("labels",)

    rows = [{"input_ids": [1, 2], "labels": [1] * n} for n in (1, 3, 2)]
    trainer = trainer_of(tmp_path, rows, **GROUPED)
    trainer.processing_class = Processor()
    assert trainer._get_train_sampler().lengths == [1, 3, 2]


def test_a_stream_has_no_lengths_which_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            return iter(helpers.sequence_rows(8).rows)

    trainer = trainer_of(tmp_path, Stream(), **GROUPED, max_steps=1)
    with caplog.at_level(logging.WARNING):
        assert trainer._get_train_sampler() is None
    assert "'group_by_length'` has no effect" in caplog.text


def test_evaluation_keeps_the_order_of_the_data(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, helpers.sequence_rows(9), **GROUPED)
    assert isinstance(trainer._get_eval_sampler(trainer.eval_dataset), SequentialSampler)


# --- a user's own loaders -----------------------------------------------------------------------------------------


class Blocks(Sampler[list[int]]):
    """Batches of growing size, as a user's own batch sampler may give them."""

    def __init__(self) -> None:
        self.batches = [[0], [1, 2], [3, 4, 5], [6, 7, 8, 9], [10, 11]]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def own_loader(rows: Any, collate: Any) -> dict[str, DataLoader[Any]]:
    return {
        "batch sampler": DataLoader(rows, batch_sampler=Blocks(), collate_fn=collate),
        "PyTorch's batch sampler": DataLoader(
            rows, batch_sampler=BatchSampler(SequentialSampler(rows), 5, False), collate_fn=collate
        ),
        "shuffling": DataLoader(
            rows, 3, shuffle=True, generator=torch.Generator().manual_seed(1), collate_fn=collate
        ),
    }


@pytest.mark.parametrize("kind", own_loader([0], list))
def test_an_own_loader_is_read_as_it_is(kind: str, tmp_path: Path) -> None:
    """Its batches, in its order, whatever the arguments say."""
    rows = CountingRows(helpers.sequence_rows(12).rows)

    class Own(etude.Trainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            return own_loader(self.train_dataset, self.data_collator)[kind]

    trainer = Own(
        helpers.gpt2_model(), helpers.training_arguments(etude, tmp_path, num_train_epochs=1),
        data_collator=helpers.pad_texts, train_dataset=rows,
    )  # fmt: skip
    sizes: list[int] = []
    step = trainer.training_step
    trainer.training_step = lambda model, inputs, *rest: (
        sizes.append(len(inputs["input_ids"])) or step(model, inputs, *rest)
    )
    trainer.train()
    read = list(rows.read)
    expected = list(own_loader(range(12), list)[kind])
    assert read == [index for batch in expected for index in batch]
    assert sizes == [len(batch) for batch in expected]
    assert trainer.state.max_steps == len(expected)


def test_loaders_can_be_made_with_the_calls_that_subclasses_make(tmp_path: Path) -> None:
    """Keywords as in the reference; a sampler function may come as a partial."""
    rows = CountingRows(helpers.sequence_rows(10).rows)
    trainer = trainer_of(tmp_path, rows)
    training = trainer._get_dataloader(
        dataset=rows, description="Training", batch_size=3, sampler_fn=trainer._get_train_sampler, is_training=True
    )  # fmt: skip
    assert sorted(len(batch["input_ids"]) for batch in training) == [1, 3, 3, 3]
    reverse = partial(lambda data, step: range(len(data))[::step], step=-1)
    for key in (None, "eval", "other"):
        rows.read.clear()
        loader = trainer._get_dataloader(
            dataset=rows, description="Evaluation", batch_size=4, sampler_fn=reverse, dataloader_key=key
        )
        list(loader)
        assert rows.read == list(range(10))[::-1]
    assert trainer.num_examples(training) == 10
    assert trainer.num_examples([1, 2, 3]) == 3 * 4


def test_evaluation_sets_go_by_name(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, helpers.sequence_rows(4))
    trainer.eval_dataset = {"a": helpers.sequence_rows(3), "b": helpers.sequence_rows(5)}
    assert trainer.num_examples(trainer.get_eval_dataloader("b")) == 5
    assert trainer.num_examples(trainer.get_eval_dataloader(trainer.eval_dataset["a"])) == 3


# --- loading processes --------------------------------------------------------------------------------------------


def test_a_kept_loader_is_used_again_only_for_what_it_was_made_from(tmp_path: Path) -> None:
    """The default set and the same one given; never another set, collator or batch size."""
    rows, others = helpers.sequence_rows(4), helpers.sequence_rows(4)
    trainer = trainer_of(tmp_path, rows, dataloader_num_workers=1, dataloader_persistent_workers=True)
    first = trainer.get_eval_dataloader()
    assert first.persistent_workers
    assert trainer.get_eval_dataloader() is first
    assert trainer.get_eval_dataloader(rows) is first
    assert trainer._eval_dataloaders == {"eval": first}
    second = trainer.get_eval_dataloader(others)
    assert second is not first
    assert second.dataset[0] is not None
    assert trainer.get_eval_dataloader(others) is second
    trainer.data_collator = lambda batch: helpers.pad_texts(batch)
    third = trainer.get_eval_dataloader(others)
    assert third is not second
    trainer.args.per_device_eval_batch_size = 2
    assert trainer.get_eval_dataloader(others) is not third
    assert not trainer.get_test_dataloader(others).persistent_workers  # nobody would use it again


def test_kept_loaders_have_names(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, helpers.sequence_rows(4), dataloader_num_workers=1, dataloader_persistent_workers=True
    )
    trainer.eval_dataset = {"a": helpers.sequence_rows(3), "b": helpers.sequence_rows(5)}
    loaders = {name: trainer.get_eval_dataloader(name) for name in ("a", "b")}
    assert trainer._eval_dataloaders == loaders
    assert trainer.get_eval_dataloader("a") is loaders["a"]
    assert trainer.evaluate().keys() >= {"eval_a_loss", "eval_b_loss"}
    assert trainer.evaluate()["eval_a_loss"] != trainer.evaluate()["eval_b_loss"]


def test_without_processes_that_live_on_nothing_is_kept(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, helpers.sequence_rows(4))
    assert trainer.get_eval_dataloader() is not trainer.get_eval_dataloader()
    assert not hasattr(trainer, "_eval_dataloaders")


@pytest.mark.slow  # processes that are started anew
def test_options_of_loaders_reach_them(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, helpers.sequence_rows(10), dataloader_num_workers=2, dataloader_prefetch_factor=3,
        dataloader_multiprocessing_context="spawn", dataloader_in_order=False, dataloader_drop_last=True,
        dataloader_persistent_workers=True,
    )  # fmt: skip
    loader = trainer.get_train_dataloader()
    assert (loader.num_workers, loader.prefetch_factor, loader.in_order) == (2, 3, False)
    assert loader.multiprocessing_context.get_start_method() == "spawn"
    assert loader.persistent_workers
    assert len(loader) == 2
    assert len(trainer.get_eval_dataloader()) == 2  # of 8: no evaluated sample is dropped


@pytest.mark.parametrize("pinned", [True, False])
def test_memory_is_pinned_where_there_is_an_accelerator(pinned: bool, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, helpers.sequence_rows(4))
    trainer.args.dataloader_pin_memory = pinned  # `use_cpu` turns it off
    assert not trainer._loader_settings(True).pin_memory
    trainer._etude.strategy.device = torch.device("cuda")
    assert trainer._loader_settings(True).pin_memory is pinned


# --- columns ------------------------------------------------------------------------------------------------------


class Anything(helpers.DictClassifier):
    """Takes any keyword."""

    def forward(self, **inputs: Any) -> Any:
        assert inputs["note"].tolist() == [1.0] * 4
        return super().forward(inputs["features"], inputs["labels"])


def feature_table(**more: Any) -> datasets.Dataset:
    rows = helpers.feature_rows(8).rows
    table = datasets.Dataset.from_list(
        [{"features": row["features"].tolist(), "labels": row["labels"], "note": 1.0} for row in rows]
    )
    return table.rename_columns(more) if more else table


def column_trainer(tmp_path: Path, model: nn.Module, rows: Any) -> Any:
    return etude.Trainer(model, helpers.training_arguments(etude, tmp_path), train_dataset=rows)


def test_a_model_that_takes_anything_gets_everything(tmp_path: Path) -> None:
    for rows in (feature_table(), list(feature_table())):
        column_trainer(tmp_path, Anything(), rows).train()


def wrapped_models() -> dict[str, nn.Module]:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft's own making
        adapted = get_peft_model(helpers.bert_classifier(), LoraConfig(target_modules=["query"]))
    return {
        "peft": adapted,
        "compiled": torch.compile(helpers.bert_classifier(), backend="eager"),  # type: ignore[dict-item]
    }


@pytest.mark.parametrize("kind", ["peft", "compiled"])
def test_columns_are_those_of_the_model_inside(kind: str, tmp_path: Path) -> None:
    rows = [{**row, "note": "x"} for row in helpers.text_rows(4).rows]
    table = datasets.Dataset.from_list(rows)
    trainer = column_trainer(tmp_path, wrapped_models()[kind], table)
    trainer.data_collator = helpers.pad_texts
    assert trainer.get_train_dataloader().dataset.column_names == ["input_ids", "labels"]


@pytest.mark.parametrize("as_table", [True, False])
def test_data_without_a_column_of_the_model_is_an_error_before_training(
    as_table: bool, tmp_path: Path
) -> None:
    table = feature_table(features="x", labels="y")
    trainer = column_trainer(tmp_path, helpers.DictClassifier(), table if as_table else list(table))
    with pytest.raises(ValueError, match="x, y, note.*remove_unused_columns=False"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_columns_left_out_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for rows in (feature_table(), list(feature_table())):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            trainer = column_trainer(tmp_path, helpers.DictClassifier(), rows)
            trainer.train()
            trainer.train()
        (record,) = [r for r in caplog.records if "note" in r.getMessage()]
        assert "training set" in record.getMessage()
