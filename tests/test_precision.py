"""Does mixed precision end where it should, and leave nothing behind?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from etude.errors import ConfigurationError
from etude.precision import (
    AutocastPrecision,
    Precision,
    ScaledPrecision,
    float32_matmul,
    select_precision,
    select_tf32,
)
from tests import helpers

CPU = torch.device("cpu")


class Seeing(nn.Module):
    """Keeps the format that its layer computes in, and fails on request."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor, error: type[BaseException] | None = None) -> dict[str, Any]:
        inside = self.layer(x)
        self.seen.append(inside.dtype)
        if error is not None:
            raise error("inside forward")
        return {"loss": inside.sum(), "more": (inside, torch.ones(1, dtype=torch.float64), "text")}


def hooks_of(model: nn.Module) -> tuple[int, int]:
    return len(model._forward_pre_hooks), len(model._forward_hooks)


def run(model: nn.Module, **kwargs: Any) -> Any:
    return model(torch.ones(1, 2), **kwargs)


def test_the_forward_runs_in_bfloat16_and_its_outputs_are_float32() -> None:
    model = Seeing()
    with AutocastPrecision(torch.bfloat16, CPU).applied(model):
        outputs = run(model)
        assert model.layer(torch.ones(1, 2)).dtype == torch.float32  # outside of the model's own forward
    assert model.seen == [torch.bfloat16]
    assert outputs["loss"].dtype == outputs["more"][0].dtype == torch.float32
    assert outputs["more"][1].dtype == torch.float64
    assert outputs["more"][2] == "text"


def test_nothing_is_left_on_the_model() -> None:
    model = Seeing()
    with AutocastPrecision(torch.bfloat16, CPU).applied(model):
        assert hooks_of(model) == (1, 1)
        run(model)
    assert hooks_of(model) == (0, 0)
    assert "forward" not in vars(model)
    run(model)
    assert model.seen[-1] == torch.float32


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_forward_switches_autocast_off(error: type[BaseException]) -> None:
    model = Seeing()
    try:
        with pytest.raises(error), AutocastPrecision(torch.bfloat16, CPU).applied(model):
            run(model, error=error)
        assert hooks_of(model) == (0, 0)
        assert not torch.is_autocast_enabled("cpu")
    finally:
        if torch.is_autocast_enabled("cpu"):  # the tests after this one must not suffer
            torch.set_autocast_enabled("cpu", False)
            torch.autocast_decrement_nesting()
            torch.clear_autocast_cache()


def test_after_an_error_the_model_can_run_again() -> None:
    model = Seeing()
    with AutocastPrecision(torch.bfloat16, CPU).applied(model):
        with pytest.raises(ValueError, match="inside forward"):
            run(model, error=ValueError)
        assert not torch.is_autocast_enabled("cpu")
        run(model)
    assert model.seen == [torch.bfloat16, torch.bfloat16]


def test_an_error_in_a_hook_before_forward_is_the_one_that_is_seen() -> None:
    model = Seeing()

    def fail(*args: Any) -> None:
        raise ValueError("in the hook")

    model.register_forward_pre_hook(fail)
    with (
        AutocastPrecision(torch.bfloat16, CPU).applied(model),
        pytest.raises(ValueError, match="in the hook"),
    ):
        run(model)
    assert not torch.is_autocast_enabled("cpu")


def test_applying_it_twice_is_applying_it_once() -> None:
    model, precision = Seeing(), AutocastPrecision(torch.bfloat16, CPU)
    with precision.applied(model):
        with precision.applied(model):
            assert hooks_of(model) == (1, 1)
            run(model)
        assert hooks_of(model) == (1, 1)
        run(model)
    assert hooks_of(model) == (0, 0)
    assert set(model.seen) == {torch.bfloat16}


def test_two_models_are_told_apart() -> None:
    one, other, precision = Seeing(), Seeing(), AutocastPrecision(torch.bfloat16, CPU)
    with precision.applied(one), precision.applied(other):
        run(one)
        run(other)
    assert hooks_of(one) == hooks_of(other) == (0, 0)
    assert [*one.seen, *other.seen] == [torch.bfloat16] * 2


def test_outputs_of_transformers_models_stay_outputs() -> None:
    model = helpers.bert_classifier()
    with AutocastPrecision(torch.bfloat16, CPU).applied(model):
        output = model(
            input_ids=torch.ones(1, 3, dtype=torch.long), labels=torch.tensor([1]), output_hidden_states=True
        )
    assert type(output).__name__ == "SequenceClassifierOutput"
    assert {tensor.dtype for tensor in (output.loss, output.logits, *output.hidden_states)} == {torch.float32}
    output.loss.backward()


def test_full_precision_does_nothing() -> None:
    model, precision, loss = Seeing(), Precision(), torch.tensor(2.0)
    with precision.applied(model):
        assert hooks_of(model) == (0, 0)
    assert precision.scale(loss) is loss
    assert precision.state_dict() == {}


def stepped(precision: Precision, gradient: float) -> tuple[bool, torch.Tensor]:
    """Whether a step with that gradient moved the schedule, and the weight after it."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.scale((weight * gradient).sum()).backward()
    precision.unscale(optimizer)
    return precision.step(optimizer), weight.detach()


@pytest.mark.parametrize("precision", [Precision(), ScaledPrecision(CPU)], ids=["full", "scaled"])
def test_a_step_is_that_of_the_bare_optimizer(precision: Precision) -> None:
    assert stepped(precision, 3.0) == (True, torch.tensor([1.0 - 0.5 * 3.0]))


def test_scaling_reaches_the_gradient_and_is_taken_back() -> None:
    precision = ScaledPrecision(CPU)
    assert precision.scale(torch.tensor(1.0)).item() == 2.0**16


def test_an_overflow_leaves_the_step_out_and_lowers_the_scale() -> None:
    precision = ScaledPrecision(CPU)
    assert stepped(precision, float("inf")) == (False, torch.tensor([1.0]))
    assert precision.state_dict()["scale"] == 2.0**15
    assert stepped(precision, 1.0)[0]


def test_the_scale_survives_a_checkpoint() -> None:
    precision, other = ScaledPrecision(CPU), ScaledPrecision(CPU)
    stepped(precision, float("inf"))
    other.load_state_dict(precision.state_dict())
    assert other.state_dict() == precision.state_dict()
    assert other.scale(torch.tensor(1.0)).item() == 2.0**15


@pytest.mark.parametrize(
    ("bf16", "fp16", "kind", "name"),
    [
        (False, False, Precision, "float32"),
        (True, False, AutocastPrecision, "bfloat16 (autocast)"),
        (False, True, ScaledPrecision, "float16 (autocast)"),
    ],
)
def test_the_arguments_choose(bf16: bool, fp16: bool, kind: type, name: str) -> None:
    precision = select_precision(bf16, fp16, CPU)
    assert type(precision) is kind
    assert precision.name == name
    assert precision.overflow_is_normal is fp16


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(ConfigurationError, match=r"tf32=True.*Ampere"):
        select_tf32(True, compiled=False, reduced=False, device=CPU)


@pytest.mark.parametrize(
    ("asked", "compiled", "reduced", "available", "expected"),
    [
        (None, True, False, True, True),
        (None, True, True, True, None),
        (None, True, False, False, None),
        (None, False, False, True, None),
        (False, True, False, True, False),
        (True, False, False, True, True),
    ],
)
def test_compiled_float32_models_use_tf32_unless_told_not_to(
    monkeypatch, asked, compiled, reduced, available, expected
):
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: available)
    assert select_tf32(asked, compiled, reduced, torch.device("cuda")) is expected


@pytest.mark.parametrize(("asked", "inside"), [(True, "tf32"), (False, "ieee")])
def test_tf32_is_set_while_it_lasts(asked, inside):
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    with float32_matmul(asked):
        assert torch.backends.cuda.matmul.fp32_precision == inside
        assert torch.backends.cudnn.conv.fp32_precision == inside
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == before
