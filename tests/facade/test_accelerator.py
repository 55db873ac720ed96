"""The view behind `trainer.accelerator` answers what accelerate's own object answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, TensorDataset

import etude
from etude.data.prepared import PreparedLoader
from etude.errors import UnsupportedOptionError
from tests import helpers


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    return etude.Trainer(
        helpers.DictClassifier(),
        helpers.training_arguments(etude, tmp_path, max_steps=2, gradient_accumulation_steps=2),
        train_dataset=helpers.feature_rows(16),
    )


@pytest.fixture
def theirs() -> Any:
    # as the reference builds it
    return Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))


MEMBERS = (
    "device",
    "distributed_type",
    "even_batches",
    "is_fsdp2",
    "is_last_process",
    "is_local_main_process",
    "is_main_process",
    "local_process_index",
    "mixed_precision",
    "num_processes",
    "process_index",
    "scaler",
    "sync_gradients",
    "use_distributed",
)


@pytest.mark.parametrize("name", MEMBERS)
def test_one_process_says_of_itself_what_accelerate_says(name: str, trainer: Any, theirs: Any) -> None:
    assert getattr(trainer.accelerator, name) == getattr(theirs, name)


def test_what_one_process_gathers_is_what_it_has(trainer: Any, theirs: Any) -> None:
    view = trainer.accelerator
    values = {"a": torch.arange(3), "b": [torch.tensor(2.0)]}
    for name in ("gather", "gather_for_metrics", "pad_across_processes", "reduce"):
        ours, reference = getattr(view, name)(values), getattr(theirs, name)(values)
        assert torch.equal(ours["a"], reference["a"])
        assert torch.equal(ours["b"][0], reference["b"][0])
    assert view.gather_for_metrics(["text", 3]) == theirs.gather_for_metrics(["text", 3])
    with view.split_between_processes([1, 2, 3]) as part:
        assert part == [1, 2, 3]


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(range(5))


def loaders() -> dict[str, Any]:
    data = list(range(11))
    generator = torch.Generator().manual_seed(5)
    return {
        "in order": DataLoader(data, batch_size=4),
        "shuffled": DataLoader(data, batch_size=4, shuffle=True),
        "own generator": DataLoader(data, batch_size=4, sampler=RandomSampler(data, generator=generator)),
        "replacement": DataLoader(data, batch_size=4, sampler=RandomSampler(data, True, 9)),
        "batches": DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 3, True)),
        "stream": DataLoader(Stream(), batch_size=2),
    }


@pytest.mark.parametrize("kind", loaders())
def test_prepared_loaders_give_the_same_batches_in_every_epoch(kind: str, trainer: Any, theirs: Any) -> None:
    torch.manual_seed(trainer.args.seed)  # where accelerate takes its seed from
    reference = theirs.prepare(loaders()[kind])
    ours = trainer.accelerator.prepare(loaders()[kind])
    for _ in range(3):
        torch.manual_seed(1)  # a sampler of batches is not reseeded by either
        expected = [batch.tolist() if hasattr(batch, "tolist") else batch for batch in reference]
        torch.manual_seed(1)
        assert [batch.tolist() if hasattr(batch, "tolist") else batch for batch in ours] == expected
    assert trainer.accelerator.prepare(ours) is ours


def test_a_prepared_loader_can_be_entered_anywhere(trainer: Any) -> None:
    loader = trainer.accelerator.prepare(loaders()["shuffled"])
    assert isinstance(loader, PreparedLoader)
    loader.set_epoch(1)
    whole = [batch.tolist() for batch in loader.batches_from(0)]
    assert [batch.tolist() for batch in loader.batches_from(2)] == whole[2:]


def test_a_sampler_of_whole_batches_is_kept(trainer: Any) -> None:
    loader = DataLoader(
        TensorDataset(torch.arange(5)), sampler=BatchSampler(range(5), 2, False), batch_size=None
    )
    batches = [batch[0].tolist() for batch in trainer.accelerator.prepare(loader)]
    assert batches == [[0, 1], [2, 3], [4]]


def test_etudes_own_loaders_are_prepared_already(trainer: Any) -> None:
    loader = trainer.get_train_dataloader()
    assert trainer.accelerator.prepare(loader) is loader


def test_the_last_micro_batch_of_an_update_is_known(tmp_path: Path) -> None:
    seen = []

    class Looking(etude.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            seen.append((self.accelerator.sync_gradients, self.accelerator.gradient_state.sync_gradients))
            return loss

    trainer = Looking(
        helpers.DictClassifier(),
        helpers.training_arguments(etude, tmp_path, max_steps=2, gradient_accumulation_steps=2),
        train_dataset=helpers.feature_rows(16),
    )
    assert trainer.accelerator.sync_gradients
    trainer.train()
    assert seen == [(False, False), (True, True)] * 2


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_training_step_of_ones_own_reaches_the_same_weights(precision: str, tmp_path: Path) -> None:
    """As in gliner, whose training_step calls `accelerator.backward` itself."""

    class Own(etude.Trainer):
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            model.train()
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
            loss = loss / self.current_gradient_accumulation_steps
            self.accelerator.backward(loss)
            return loss.detach()

    def trained(cls: type) -> dict[str, torch.Tensor]:
        torch.manual_seed(2)
        chosen = {} if precision == "no" else {precision: True}
        trainer = cls(
            helpers.DictClassifier(),
            helpers.training_arguments(etude, tmp_path, max_steps=3, gradient_accumulation_steps=2, **chosen),
            train_dataset=helpers.feature_rows(24),
        )
        assert trainer.accelerator.mixed_precision == precision
        trainer.train()
        return helpers.weights_of(trainer.model)

    assert helpers.relative_difference(trained(Own), trained(etude.Trainer)) < 1e-6


def test_clipping_by_hand_sees_unscaled_gradients(tmp_path: Path) -> None:
    norms = []

    class Clipping(etude.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            norms.append(self.accelerator.clip_grad_norm_(self.model.parameters(), 1e9).item())
            return loss

    trainer = Clipping(
        helpers.DictClassifier(),
        helpers.training_arguments(etude, tmp_path, max_steps=2, fp16=True),
        train_dataset=helpers.feature_rows(16),
    )
    trainer.train()
    logged = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    assert norms == pytest.approx(logged)


def test_a_model_that_is_only_evaluated_runs_in_the_precision_of_the_run(tmp_path: Path) -> None:
    trainer = etude.Trainer(helpers.DictClassifier(), helpers.training_arguments(etude, tmp_path, bf16=True))
    reference = nn.Linear(4, 4)
    inputs = torch.randn(2, 4)
    view = trainer.accelerator
    assert view.prepare_model(reference, evaluation_mode=True) is reference
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = nn.functional.linear(inputs, reference.weight, reference.bias).float()
    assert torch.equal(reference(inputs), expected)
    with view.autocast():
        assert nn.functional.linear(inputs, reference.weight).dtype == torch.bfloat16
    assert view.free_memory(reference) == [None]
    assert torch.equal(reference(inputs), nn.functional.linear(inputs, reference.weight, reference.bias))


def test_wrappers_come_off(trainer: Any) -> None:
    view, model = trainer.accelerator, trainer.model
    compiled = torch.compile(model, backend="eager")
    assert view.unwrap_model(model) is model
    assert view.unwrap_model(compiled) is compiled
    assert view.unwrap_model(compiled, keep_torch_compile=False) is model
    assert view.unwrap_model(nn.DataParallel(model)) is model
    assert view.get_state_dict(model).keys() == model.state_dict().keys()


def test_what_would_have_no_effect_is_refused(trainer: Any) -> None:
    view = trainer.accelerator
    with pytest.raises(UnsupportedOptionError, match=r"accelerator.clip_grad_norm_.*would have no effect"):
        view.clip_grad_norm_ = print
    with pytest.raises(UnsupportedOptionError, match="dispatch_batches"):
        view.dataloader_config.dispatch_batches = True
    view.dataloader_config.dispatch_batches = False
    view.even_batches = False
    assert view.dataloader_config.even_batches is False
    with pytest.raises(AttributeError, match=r"has no 'register_for_checkpointing'.*gather_for_metrics"):
        view.register_for_checkpointing(trainer)
    assert not hasattr(view, "nonsense")
