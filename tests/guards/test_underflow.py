"""Does the watcher name the first module whose values are not finite, and leave no trace?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import etude
from etude.errors import ModelOutputError, UnsupportedOptionError
from etude.guards.underflow import DebugUnderflowOverflow
from tests import helpers
from tests.parity.runner import BERT, DICT, LIBRARIES, build_trainer


class Growing(nn.Module):
    """Multiplies by ten at each layer, in half precision: it overflows in the fifth."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(6))
        for layer in self.layers:
            nn.init.constant_(layer.weight, 5.0)
        self.half()

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> dict[str, torch.Tensor]:
        for layer in self.layers:
            x = layer(input=x * scale)  # by keyword, so that hooks without keywords would not see it
        return {"out": x}


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_the_first_bad_module_is_named_and_those_before_it_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Growing()
    watcher = DebugUnderflowOverflow(model, max_frames_to_save=3)
    assert model(torch.ones(1, 2).half(), scale=0.1)["out"].isfinite().all()
    with pytest.raises(
        ModelOutputError, match=r"layers\.4 \(Linear\) has inf or NaN in output, in batch 1"
    ) as caught:
        model(torch.ones(1, 2).half())
    assert isinstance(caught.value, ValueError)
    told = capsys.readouterr().out.splitlines()
    assert told[1] == "batch 1: the last 3 modules, the newest at the end"
    assert [line.split()[0] for line in told if line.endswith(": Linear")] == [
        "layers.2:",
        "layers.3:",
        "layers.4:",
    ]
    assert told[-1] == "      inf       inf  output  <-- not finite"
    assert told[-2] == " 1.00e+04  1.00e+04  input['input']"
    assert told[-3] == " 5.00e+00  5.00e+00  weight"
    watcher.remove()
    assert hooks(model) == 0


@pytest.mark.parametrize("where", ["weight", "input"])
def test_bad_weights_and_inputs_are_found(where: str) -> None:
    model, x = Growing(), torch.ones(1, 2).half()
    if where == "weight":
        model.layers[0].weight.data[0, 0] = torch.nan
    else:
        x[0, 1] = torch.inf
    DebugUnderflowOverflow(model)
    with pytest.raises(ModelOutputError, match=rf"layers\.0 .* in {where}"):
        model(x)


def test_a_batch_can_be_traced_and_the_run_ended_after_one(capsys: pytest.CaptureFixture[str]) -> None:
    model = Growing()
    DebugUnderflowOverflow(model, trace_batch_nums=[1], abort_after_batch_num=1)
    x = torch.full((1, 2), 0.01).half()
    model(x)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="after batch 1"):
        model(x.mul(1000))  # which overflows: a traced batch is not stopped in the middle
    told = capsys.readouterr().out
    assert told.count("batch 1\n") == 1
    assert told.count(": Linear\n") == 6
    assert "(the model): Growing" in told


def poisoned(lib: Any, folder: Path, **arguments: Any) -> Any:
    trainer = build_trainer(lib, DICT.having(debug="underflow_overflow", **arguments), folder)
    trainer.train_dataset.rows[-1]["features"] = torch.full((helpers.NUM_FEATURES,), torch.inf)
    return trainer


def test_a_training_stops_where_that_of_the_reference_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = []
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = poisoned(lib, tmp_path / name)
            with pytest.raises(ValueError, match=r"inf"):
                trainer.train()
            steps.append(trainer.state.global_step)
    assert steps[0] == steps[1]
    assert "body.0: Linear" in capsys.readouterr().out
    assert hooks(trainer.model) == 0


def test_a_healthy_training_is_not_disturbed(tmp_path: Path) -> None:
    weights = []
    for debug in ("", "underflow_overflow"):
        trainer = build_trainer(etude, BERT.having(debug=debug, max_steps=2), tmp_path / (debug or "plain"))
        trainer.train()
        weights.append(helpers.weights_of(trainer.model))
        assert hooks(trainer.model) == 0
    helpers.assert_identical(*weights)


def test_what_needs_a_tpu_is_refused() -> None:
    with pytest.raises(UnsupportedOptionError, match="underflow_overflow"):
        etude.TrainingArguments("x", debug="underflow_overflow tpu_metrics_debug")
