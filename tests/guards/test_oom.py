from __future__ import annotations

import pytest
import torch
from accelerate.utils import find_executable_batch_size as reference

from etude import Trainer, TrainingArguments
from etude.errors import SetupError
from etude.guards.oom import find_executable_batch_size, is_out_of_memory
from tests import helpers


def tried(find, start: int, fits: int) -> list[int]:
    sizes: list[int] = []

    def function(batch_size):
        sizes.append(batch_size)
        if batch_size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return batch_size

    assert find(function)() == sizes[-1]
    return sizes


def test_it_tries_the_sizes_that_the_reference_tries():
    ours = tried(lambda f: find_executable_batch_size(f, 64, auto_find_batch_size=True), 64, 16)
    assert ours == [64, 57, 51, 45, 40, 36, 32, 28, 25, 22, 19, 17, 15]
    assert ours == tried(lambda f: reference(f, starting_batch_size=64), 64, 16)


def test_one_attempt_where_it_is_not_asked_for():
    with pytest.raises(torch.OutOfMemoryError):
        tried(lambda f: find_executable_batch_size(f, 64), 64, 16)


def test_other_errors_pass():
    @find_executable_batch_size(auto_find_batch_size=True)
    def function(batch_size):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        function()


def test_when_nothing_fits_it_says_what_would():
    with pytest.raises(SetupError, match=r"No batch size.*activation_checkpointing"):
        tried(lambda f: find_executable_batch_size(f, 3, auto_find_batch_size=True), 3, 0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("shapes"), False),
        (SetupError("out of memory"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


class Hungry(helpers.DictClassifier):
    """Has no memory for more than `fits` samples, which it notices only at its third batch."""

    fits = 6

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(self, features, labels=None):
        self.batches += 1
        if self.batches >= 3 and self.training and len(features) > self.fits:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(features, labels)


def trained(model, folder, size: int, **extra) -> Trainer:
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=size,
        max_steps=6,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        log_level="warning",
        **extra,
    )
    trainer = Trainer(model, arguments, train_dataset=helpers.feature_rows(40))
    trainer.train()
    return trainer


def test_a_training_that_starts_again_is_one_that_began_with_the_size_that_fits(tmp_path):
    torch.manual_seed(0)
    hungry = Hungry()
    torch.manual_seed(0)
    modest = Hungry()
    found = trained(hungry, tmp_path / "a", 8, auto_find_batch_size=True)
    plain = trained(modest, tmp_path / "b", 6)
    assert found._train_batch_size == 6
    assert found.state.train_batch_size == 6
    assert found.args.per_device_train_batch_size == 8
    losses = [[row["loss"] for row in t.state.log_history if "loss" in row] for t in (found, plain)]
    assert losses[0] == losses[1]
    assert len((tmp_path / "a" / "log.jsonl").read_text().splitlines()) == 7
    for ours, theirs in zip(hungry.parameters(), modest.parameters(), strict=True):
        assert torch.equal(ours, theirs)
