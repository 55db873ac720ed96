"""Training on a mix of data sets: the shares in the log, resuming bit for bit, the same updates on two processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

import etude
from etude.errors import ConfigurationError, DataError, UnsupportedOptionError
from tests import helpers
from tests.distributed import workloads
from tests.distributed.launch import run_ranks

SIZES = {"mail": 21, "code": 9, "books": 34}
WEIGHTS = {"mail": 0.5, "code": 0.3, "books": 0.2}
ALL = {"mixing_weights": WEIGHTS, "mixing_stop": "all"}


def parts(kind: type[helpers.Rows] = helpers.Rows) -> dict[str, Any]:
    rows = {name: helpers.feature_rows(size, seed=size).rows for name, size in SIZES.items()}
    return {name: kind(found) for name, found in rows.items()}


def mixed_trainer(folder: Path, data: Any = None, callbacks: Any = (), **options: Any) -> Any:
    return workloads.build(folder, parts() if data is None else data, callbacks=callbacks, **options)


def test_log_has_the_counts_of_each_source(tmp_path: Path) -> None:
    """They are those of what was read, and go on over epochs."""
    data = parts(workloads.ReadRows)
    trainer = mixed_trainer(tmp_path, data, [ReadFromHere], gradient_accumulation_steps=2, **ALL)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    counts = [{name: row[f"samples_{name}"] for name in SIZES} for row in rows]
    lengths = [8] * (len(rows) // 2 - 1) + [170 - 8 * (len(rows) // 2 - 1)]
    assert [sum(count.values()) for count in counts] == torch.tensor(lengths * 2).cumsum(0).tolist()
    assert counts[-1] == {"mail": 170, "code": 102, "books": 68}
    for name, size in SIZES.items():
        assert len(data[name].read) == counts[-1][name]
        times = Counter(data[name].read)
        assert {times[index] for index in range(size)} <= {
            len(data[name].read) // size + more for more in (0, 1)
        }
        assert max(abs(c[name] - WEIGHTS[name] * sum(c.values())) for c in counts) <= 1


def test_resumed_in_the_middle_of_the_second_epoch(tmp_path: Path) -> None:
    options = {**ALL, "save_strategy": "steps", "save_steps": 7, "per_device_train_batch_size": 8}
    whole = mixed_trainer(tmp_path / "whole", **options)
    whole.train()
    with helpers.library("etude") as lib:
        broken = mixed_trainer(tmp_path / "broken", callbacks=[workloads.make_breaker(lib, 32)], **options)
    with pytest.raises(workloads.InterruptedRunError):
        broken.train()
    resumed = mixed_trainer(tmp_path / "broken", **options)
    resumed.train(resume_from_checkpoint=True)
    assert resumed._etude.run.first_step == 28
    helpers.assert_identical(helpers.weights_of(resumed.model), helpers.weights_of(whole.model))
    histories = [helpers.without_timing(trainer.state.log_history) for trainer in (resumed, whole)]
    assert histories[0] == histories[1]


def test_a_ready_mix_is_the_same_as_the_options(tmp_path: Path) -> None:
    by_options = mixed_trainer(tmp_path / "a", **ALL)
    ready = mixed_trainer(tmp_path / "b", etude.MixedDataset(parts(), WEIGHTS, stop="all"))
    for trainer in (by_options, ready):
        trainer.train()
    helpers.assert_identical(helpers.weights_of(by_options.model), helpers.weights_of(ready.model))


@pytest.mark.slow
def test_a_mix_within_a_token_budget_reads_the_same(tmp_path: Path) -> None:
    """Its epoch is that of the mix, which is longer than all samples together."""
    rows = {name: workloads.ReadRows(helpers.text_rows(n, seed=n).rows) for name, n in (("a", 30), ("b", 6))}
    trainer = workloads.build(
        tmp_path, rows, helpers.bert_classifier, collator=helpers.pad_texts, num_train_epochs=1,
        mixing_weights={"a": 1, "b": 1}, mixing_stop="all", max_tokens_per_batch=20,
    )  # fmt: skip
    loader = trainer.get_train_dataloader()
    for part in rows.values():
        part.read.clear()
    list(loader)
    assert sorted(rows["a"].read) == list(range(30))
    assert set(Counter(rows["b"].read).values()) == {5}
    trainer.train()
    assert trainer.state.log_history[-2]["samples_b"] == 30


def test_columns_of_tables_are_left_out_in_each(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")

    def table(size: int, extra: str) -> Any:
        rows = helpers.feature_rows(size).rows
        return datasets.Dataset.from_list(
            [{"features": row["features"].tolist(), "labels": row["labels"], extra: "?"} for row in rows]
        )

    data = datasets.DatasetDict({"a": table(8, "title"), "b": table(5, "url")})
    trainer = mixed_trainer(tmp_path, data, collator=etude.default_data_collator)
    assert {frozenset(batch) for batch in trainer.get_train_dataloader()} == {
        frozenset({"features", "labels"})
    }
    assert trainer.train_dataset is data


def test_columns_that_do_not_fit_are_told_before_training(tmp_path: Path) -> None:
    data = {"good": helpers.feature_rows(4), "bare": helpers.Rows([{"features": torch.zeros(6)}])}
    with pytest.raises(DataError, match="'good' and 'bare' have different columns"):
        mixed_trainer(tmp_path, data).train()


@pytest.mark.parametrize(
    ("options", "error", "culprit"),
    [
        ({"mixing_weights": {"mail": 1}}, ConfigurationError, "'mail', the data sets are"),
        ({"mixing_weights": {"mail": -1}}, ConfigurationError, "numbers above 0"),
        ({"mixing_weights": WEIGHTS, "mixing_temperature": 2}, ConfigurationError, "give one of them"),
        ({"mixing_temperature": 0}, ConfigurationError, "above 0"),
        ({"mixing_stop": "never"}, ConfigurationError, "never"),
        ({"mixing_stop": "steps"}, ConfigurationError, "needs `max_steps`"),
        ({"train_sampling_strategy": "group_by_length"}, UnsupportedOptionError, "group_by_length"),
        ({"packing": True}, UnsupportedOptionError, "packing"),
    ],
)
def test_errors_come_when_the_trainer_is_built(
    options: dict[str, Any], error: type[Exception], culprit: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=culprit):
        mixed_trainer(tmp_path, **options)


def test_options_of_a_mix_need_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is for a dictionary of data sets"):
        mixed_trainer(tmp_path, helpers.feature_rows(4), mixing_temperature=2)
    with pytest.raises(ConfigurationError, match="has its own"):
        mixed_trainer(tmp_path, etude.MixedDataset(parts()), mixing_weights=WEIGHTS)


def test_weights_are_read_from_text(tmp_path: Path) -> None:
    args = helpers.training_arguments(etude, tmp_path, mixing_weights='{"mail": 0.5, "code": 2}')
    assert args.mixing_weights == {"mail": 0.5, "code": 2}


def test_a_subclass_with_a_loader_of_its_own_gets_the_dictionary(tmp_path: Path) -> None:
    """Also with what could not be mixed."""

    class Own(etude.Trainer):
        def get_train_dataloader(self) -> Any:
            return DataLoader(self.train_dataset["mail"], batch_size=7)

    data = {**parts(), "nothing": []}
    trainer = Own(helpers.DictClassifier(), helpers.training_arguments(etude, tmp_path), train_dataset=data)
    trainer.train()
    assert trainer.train_dataset is data
    assert trainer.state.global_step == 6
    assert "samples_mail" not in trainer.state.log_history[0]


def test_a_dictionary_with_numbers_is_a_data_set_itself(tmp_path: Path) -> None:
    rows = dict(enumerate(helpers.feature_rows(8).rows))
    trainer = mixed_trainer(tmp_path, rows, collator=default_collate)
    assert trainer.train().global_step == 4


class ReadFromHere(etude.TrainerCallback):
    """Forgets what was read before the training: a check looks at the first samples."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for part in kwargs["train_dataloader"].dataset.sources.values():
            part.read.clear()


def mixed_run(folder: Path, world: int, windows: int) -> dict[str, Any]:
    data = parts(workloads.ReadRows)
    trainer = mixed_trainer(
        folder, data, [ReadFromHere], optim="sgd", learning_rate=0.3, **ALL, **workloads.cut(world, windows)
    )
    trainer.train()
    rows = [{k: v for k, v in row.items() if k.startswith("samples_")} for row in trainer.state.log_history]
    return {
        "weights": helpers.weights_of(trainer.model),
        "read": {name: part.read for name, part in data.items()},
        "counts": rows,
    }


def mixed_on_a_rank(folder: Path) -> None:
    torch.save(mixed_run(folder, 2, 2), folder / f"mixed-{workloads.rank()}.pt")


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_have_the_updates_of_one(tmp_path: Path) -> None:
    run_ranks(mixed_on_a_rank, tmp_path, world=2)
    ranks = [torch.load(tmp_path / f"mixed-{rank}.pt", weights_only=False) for rank in range(2)]
    alone = mixed_run(tmp_path / "alone", 1, 1)
    assert helpers.relative_difference(ranks[0]["weights"], alone["weights"]) <= 1e-6
    for name in SIZES:
        assert sorted(ranks[0]["read"][name] + ranks[1]["read"][name]) == sorted(alone["read"][name])
    assert ranks[0]["counts"] == ranks[1]["counts"] == alone["counts"]
