"""Samples that share a row train as if each were alone, each of them comes once an epoch, and runs can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

import etude
from etude.errors import ConfigurationError
from tests import helpers
from tests.contracts.packing import (
    CAUSAL,
    MODELS,
    built,
    of_transformers,
    rows_for,
    train_on_ranks,
    trainer_of,
)
from tests.contracts.resuming import InterruptedRunError, make_breaker
from tests.contracts.splitting import Gradients, capture
from tests.distributed.launch import run_ranks

SAMPLES = 11


def alone(name: str) -> tuple[float, Gradients]:
    """Loss and gradients by definition: every sequence is run by itself, the mean is over what all of them predict."""
    model = built(name).train()
    total, items = torch.zeros(()), 0
    for row in rows_for(name, SAMPLES).rows:
        ids = torch.tensor([row["input_ids"]])
        labels = torch.tensor([row.get("labels", row["input_ids"])])
        count = int((labels[:, 1:] if name in CAUSAL else labels).ne(helpers.IGNORED).sum())
        if count:
            total = total + model(input_ids=ids, labels=labels).loss * count
            items += count
    loss = total / items
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rows_at_once", [16, 2])
def test_packed_rows_train_as_their_sequences_alone(name: str, rows_at_once: int, tmp_path: Path) -> None:
    """All samples in one update, as one batch and as micro-batches of two rows."""
    loss, gradients = alone(name)
    taken: list[Gradients] = []
    trainer = trainer_of(
        built(name),
        tmp_path,
        rows_for(name, SAMPLES),
        [capture(etude, taken)],
        per_device_train_batch_size=rows_at_once,
        gradient_accumulation_steps=16 // rows_at_once,
        num_train_epochs=1,
        max_grad_norm=0.0,
        learning_rate=0.0,
    )
    assert 2 < len(trainer.get_train_dataloader().batch_sampler.packing) < SAMPLES  # rows are shared
    trainer.train()
    assert trainer.state.global_step == 1
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss, rel=1e-5)
    assert helpers.relative_difference(taken[0], gradients) < 1e-5


def test_a_run_that_is_broken_off_in_the_middle_of_an_epoch_goes_on(tmp_path: Path) -> None:
    """With dropout, in the second epoch, bit for bit."""

    def run(folder: str, resume: bool | None = None, callbacks: Any = ()) -> Any:
        torch.manual_seed(5)
        model = of_transformers("BertForMaskedLM", dropout=0.1)
        fields = {"save_strategy": "steps", "save_steps": 7, "per_device_train_batch_size": 3}
        trainer = trainer_of(model, tmp_path / folder, rows_for("bert-masked", 23), callbacks, **fields)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = run("whole")
    assert (
        len(whole.get_train_dataloader()) == 5
    )  # so that the checkpoint of step 7 is in the middle of an epoch
    with pytest.raises(InterruptedRunError):
        run("broken", callbacks=[make_breaker(etude, "on_step_begin", 9)])
    assert (tmp_path / "broken" / "checkpoint-7").is_dir()
    resumed = run("broken", resume=True)
    helpers.assert_identical(helpers.weights_of(resumed.model), helpers.weights_of(whole.model))
    assert helpers.without_timing(resumed.state.log_history) == helpers.without_timing(
        whole.state.log_history
    )


def test_every_sample_is_read_once_in_each_epoch(tmp_path: Path) -> None:
    train_on_ranks(tmp_path)
    kept = torch.load(tmp_path / "kept-0.pt")
    assert [sorted(epoch) for epoch in kept["read"]] == [list(range(23))] * 2
    assert kept["read"][0] != kept["read"][1]


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_share_the_rows(tmp_path: Path) -> None:
    """Every sample once an epoch, in the same update as on one process."""
    for world in (1, 2):
        folder = tmp_path / str(world)
        folder.mkdir()
        run_ranks(train_on_ranks, folder, world)
    whole = torch.load(tmp_path / "1" / "kept-0.pt")
    shares = [torch.load(tmp_path / "2" / f"kept-{rank}.pt") for rank in (0, 1)]
    for epoch in (0, 1):
        assert sorted(shares[0]["read"][epoch] + shares[1]["read"][epoch]) == list(range(23))
        assert min(len(share["read"][epoch]) for share in shares) > 0
    assert shares[0]["steps"] == whole["steps"]
    assert helpers.relative_difference(shares[0]["weights"], whole["weights"]) < 1e-5


class Convolving(nn.Module):
    """A tagger that looks at neighbours, whoever they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(helpers.VOCABULARY, 8)
        self.places = nn.Embedding(32, 8)
        self.neighbours = nn.Conv1d(8, helpers.NUM_CLASSES, 3, padding=1)

    def forward(self, input_ids: Any, position_ids: Any = None, labels: Any = None) -> dict[str, Any]:
        places = torch.arange(input_ids.shape[1])[None] if position_ids is None else position_ids
        logits = self.neighbours((self.embedding(input_ids) + self.places(places)).mT).mT
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(rows_for("gpt2", 4).rows)


class StreamWithLength(Stream):
    def __len__(self) -> int:
        return 4


class OwnLoader(etude.Trainer):
    def get_train_dataloader(self) -> Any:
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=helpers.pad_texts)


class OwnOrder(etude.Trainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset)


def test_a_model_whose_sequences_cannot_be_kept_apart_is_refused(tmp_path: Path) -> None:
    """Before anything is trained."""
    trainer = trainer_of(Convolving(), tmp_path, rows_for("bert-tokens", 6))
    with pytest.raises(ConfigurationError, match=r"packing=True.*Convolving.*change each other"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_data_and_orders_that_cannot_be_packed_are_refused(tmp_path: Path) -> None:
    for stream in (Stream(), StreamWithLength()):
        with pytest.raises(ConfigurationError, match=r"packing=True.*needs a map-style data set"):
            trainer_of(built("gpt2"), tmp_path, stream, max_steps=2).train()
    with pytest.raises(ConfigurationError, match=r"packing_length=4.*raise it, or truncate"):
        trainer_of(built("gpt2"), tmp_path, rows_for("gpt2", 6), packing_length=4).train()
    arguments = helpers.training_arguments(etude, tmp_path, packing=True)
    own: etude.Trainer = OwnOrder(model=built("gpt2"), args=arguments, train_dataset=rows_for("gpt2", 6))
    with pytest.raises(ConfigurationError, match=r"packing=True.*your own SequentialSampler"):
        own.train()
    own = OwnLoader(model=built("gpt2"), args=arguments, train_dataset=rows_for("gpt2", 6))
    with pytest.raises(
        ConfigurationError, match=r"`packing` has no effect on a training loader.* of your own"
    ):
        own.train()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"packing_length": 8}, "`packing_length` needs `packing=True`"),
        ({"packing": True, "packing_length": 0}, "`packing_length` must be a number of at least 1"),
        (
            {"packing": True, "train_sampling_strategy": "group_by_length"},
            "leave out `train_sampling_strategy",
        ),
        ({"packing": True, "include_num_input_tokens_seen": "non_padding"}, "set it to 'all'"),
    ],
)
def test_arguments_that_contradict_packing_are_refused(
    fields: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        helpers.training_arguments(etude, tmp_path, **fields)
