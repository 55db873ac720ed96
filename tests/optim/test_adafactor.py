"""Does Adafactor make the reference's updates, and do both read each other's state?"""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

import etude
from etude.errors import ConfigurationError
from tests import helpers

OPTIONS: dict[str, dict[str, Any]] = {
    "trainer": {"lr": 1e-2, "scale_parameter": False, "relative_step": False},
    "own-rate": {},
    "warm-up": {"warmup_init": True},
    "scaled": {"lr": 1e-2, "relative_step": False},
    "momentum": {"lr": 1e-2, "relative_step": False, "scale_parameter": False, "beta1": 0.9},
    "decay": {"lr": 1e-2, "relative_step": False, "weight_decay": 0.3, "clip_threshold": 0.1},
    "decay-own-rate": {"weight_decay": 0.3, "decay_rate": -0.5, "beta1": 0.5},
}
SHAPES = ((3, 5), (7,), (2, 3, 4), ())


def made(library: str, options: dict[str, Any], dtype: torch.dtype = torch.float32) -> tuple[Any, list[Any]]:
    torch.manual_seed(3)
    parameters = [nn.Parameter(torch.randn(shape).to(dtype)) for shape in SHAPES]
    parameters.append(nn.Parameter(torch.zeros(4, dtype=dtype)))  # below the smallest scale
    with helpers.library(library):
        from transformers import optimization

        cls = optimization.Adafactor if library == "transformers" else etude.Adafactor
    return cls(parameters, **options), parameters


def move(optimizer: Any, parameters: list[Any], steps: int, seed: int = 0) -> None:
    torch.manual_seed(seed)
    for _ in range(steps):
        for parameter in parameters[: len(parameters) - 1]:
            parameter.grad = torch.randn_like(parameter)
        parameters[-1].grad = torch.full_like(parameters[-1], 0.5)
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIONS)
def test_updates_are_those_of_the_reference(name: str, dtype: torch.dtype) -> None:
    results = []
    for library in ("transformers", "etude"):
        optimizer, parameters = made(library, OPTIONS[name], dtype)
        move(optimizer, parameters, 6)
        results.append([p.detach() for p in parameters])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["trainer", "decay-own-rate"])
@pytest.mark.parametrize(("written_by", "read_by"), [("transformers", "etude"), ("etude", "transformers")])
def test_state_is_read_by_the_other_library(name: str, written_by: str, read_by: str) -> None:
    first, before = made(written_by, OPTIONS[name])
    second, after = made(read_by, OPTIONS[name])
    move(first, before, 3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for mine, other in zip(after, before, strict=True):
        mine.data.copy_(other.data)
    move(first, before, 3, seed=1)
    move(second, after, 3, seed=1)
    for mine, other in zip(after, before, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["own-rate", "warm-up"])
def test_the_schedule_shows_the_rates_that_it_chooses(name: str) -> None:
    shown = []
    for library in ("transformers", "etude"):
        optimizer, parameters = made(library, OPTIONS[name])
        with helpers.library(library):
            from transformers import optimization

            make = (optimization if library == "transformers" else etude).get_adafactor_schedule
        schedule = make(optimizer, 0.25)
        rates = [schedule.get_last_lr()]
        for seed in range(3):
            move(optimizer, parameters, 1, seed)
            schedule.step()
            rates.append([float(rate) for rate in schedule.get_last_lr()])
        shown.append(rates)
    for theirs, ours in zip(*shown, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    assert shown[1][0] == [0.25]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"lr": 0.1}, "`lr`"), ({"warmup_init": True, "relative_step": False}, "requires")],
)
def test_arguments_that_exclude_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        etude.Adafactor([nn.Parameter(torch.ones(1))], **options)


def test_a_closure_is_called_with_gradients_on() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = etude.Adafactor([weight], lr=0.1, relative_step=False, scale_parameter=False)

    def closure() -> torch.Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    assert weight.max() < 1


def test_training_by_its_own_rate_equals_the_reference(tmp_path: Any) -> None:
    rows = []
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            from transformers import optimization

            parts = optimization if library == "transformers" else etude
            torch.manual_seed(1)
            model = helpers.DictClassifier()
            optimizer = parts.Adafactor(model.parameters(), warmup_init=True)
            args = helpers.training_arguments(lib, tmp_path / library, max_steps=6)
            trainer = lib.Trainer(
                model, args, train_dataset=helpers.feature_rows(24),
                optimizers=(optimizer, parts.AdafactorSchedule(optimizer)),
            )  # fmt: skip
            trainer.train()
            rows.append(helpers.without_timing(trainer.state.log_history))
    for theirs, ours in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
