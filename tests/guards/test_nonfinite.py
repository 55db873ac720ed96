"""Do the weights stay where they are at a bad step, and is it said which step it was?"""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch

from etude.core.names import NonFinitePolicy
from etude.core.world import World
from etude.errors import NonFiniteError
from etude.guards.nonfinite import MOST_SAMPLES_SHOWN, DeviceGuard, HostGuard, select_guard
from etude.precision import Precision, ScaledPrecision
from etude.strategies.base import Strategy

CPU = torch.device("cpu")
GUARDS = [HostGuard, DeviceGuard]
GOOD, NAN, INF = 0.5, math.nan, math.inf


class Bench:
    """A guard with an optimizer whose kernel honours a verdict, on the CPU."""

    def __init__(self, kind: type[HostGuard], policy: str, samples: list[int] | None = None) -> None:
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.optimizer = torch.optim.AdamW([self.weight], lr=0.1, fused=True)
        self.guard = kind(NonFinitePolicy(policy), Precision(), Strategy(World(), CPU), lambda step: samples)
        self.steps = 0

    def step(self, loss: float = GOOD, norm: float = GOOD) -> bool:
        """One step; returns whether the weights moved."""
        self.steps += 1
        self.weight.grad = torch.full((3,), 1.0 if math.isfinite(norm) else norm)
        before = self.weight.detach().clone()
        self.guard.step(self.optimizer, torch.tensor(loss), torch.tensor(norm), self.steps)
        return not torch.equal(self.weight.detach(), before)

    def moments(self) -> str:
        return str(self.optimizer.state_dict()["state"])


BAD = [(NAN, GOOD), (INF, GOOD), (-INF, GOOD), (GOOD, NAN), (GOOD, INF), (NAN, NAN), (INF, -INF)]


@pytest.mark.parametrize(("loss", "norm"), BAD)
@pytest.mark.parametrize("kind", GUARDS)
def test_a_bad_step_is_left_out(kind: Any, loss: float, norm: float) -> None:
    bench = Bench(kind, "skip")
    assert bench.step()
    before = bench.moments()
    assert not bench.step(loss, norm)
    assert bench.moments() == before
    assert bench.step()


@pytest.mark.parametrize("kind", GUARDS)
def test_good_steps_are_those_of_the_bare_optimizer(kind: Any) -> None:
    guarded, bare = Bench(kind, "raise"), Bench(kind, "raise")
    for _ in range(3):
        guarded.step()
        bare.weight.grad = torch.ones(3)
        bare.optimizer.step()
    guarded.guard.settle()
    assert torch.equal(guarded.weight, bare.weight)
    assert guarded.moments() == bare.moments()


@pytest.mark.parametrize(("loss", "norm"), BAD)
def test_the_host_raises_before_the_weights_move(loss: float, norm: float) -> None:
    bench = Bench(HostGuard, "raise", [4, 7])
    bench.step()
    before = bench.weight.detach().clone()
    with pytest.raises(NonFiniteError) as caught:
        bench.step(loss, norm)
    assert torch.equal(bench.weight.detach(), before)
    assert (caught.value.step, caught.value.samples) == (2, [4, 7])
    assert str((caught.value.loss, caught.value.grad_norm)) == str((loss, norm))


@pytest.mark.parametrize(("loss", "norm"), BAD)
def test_the_device_holds_the_weights_until_the_host_raises(loss: float, norm: float) -> None:
    bench = Bench(DeviceGuard, "raise", [4, 7])
    assert [bench.step(), bench.step(loss, norm), bench.step(), bench.step(NAN)] == [
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(NonFiniteError) as caught:
        bench.guard.settle()
    assert (caught.value.step, caught.value.samples) == (2, [4, 7])
    assert str((caught.value.loss, caught.value.grad_norm)) == str((loss, norm))


@pytest.mark.parametrize("kind", GUARDS)
def test_the_log_policy_goes_on_regardless(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(kind, "log")
    assert bench.step(NAN, GOOD)
    bench.step(NAN, NAN)
    bench.guard.settle()
    assert bench.weight.isnan().all()
    assert not caplog.records


def test_the_host_says_which_step_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(HostGuard, "skip")
    with caplog.at_level(logging.WARNING):
        bench.step()
        bench.step(NAN, GOOD)
    (record,) = caplog.records
    assert "Step 2 is left out: its loss is nan and its gradient norm 0.5" in record.getMessage()


def test_the_device_says_how_many_were_left_out_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(DeviceGuard, "skip")
    with caplog.at_level(logging.WARNING):
        for loss in (GOOD, INF, GOOD, NAN):
            bench.step(loss)
        bench.guard.settle()
        bench.step()
        bench.guard.settle()
    (record,) = caplog.records
    assert "2 steps" in record.getMessage()
    assert "step 2: its loss is inf" in record.getMessage()


def test_a_verdict_is_not_left_on_the_optimizer() -> None:
    bench = Bench(DeviceGuard, "skip")
    bench.step(NAN)
    assert not hasattr(bench.optimizer, "found_inf")
    assert not hasattr(bench.optimizer, "grad_scale")


def test_the_message_shows_the_samples_but_not_endlessly() -> None:
    message = raised_message(list(range(100)))
    assert f"{MOST_SAMPLES_SHOWN - 1}, ..." in message
    assert f" {MOST_SAMPLES_SHOWN}," not in message
    assert "samples on this process: 3, 5." in raised_message([3, 5])
    assert "samples on this process" not in raised_message(None)


def raised_message(samples: list[int] | None) -> str:
    with pytest.raises(NonFiniteError, match="on_nonfinite='skip'") as caught:
        Bench(HostGuard, "raise", samples).step(NAN)
    return str(caught.value)


def test_an_overflow_under_loss_scaling_is_no_error() -> None:
    bench = Bench(HostGuard, "raise")
    bench.guard.precision = precision = ScaledPrecision(CPU)
    bench.weight.grad = torch.full((3,), INF)
    precision.scale(torch.tensor(1.0))
    precision.unscale(bench.optimizer)
    moves = bench.guard.step(bench.optimizer, torch.tensor(GOOD), torch.tensor(INF), 1)
    assert not moves
    assert torch.equal(bench.weight.detach(), torch.ones(3))


def test_a_bad_loss_under_loss_scaling_is_an_error() -> None:
    bench = Bench(HostGuard, "raise")
    bench.guard.precision = ScaledPrecision(CPU)
    with pytest.raises(NonFiniteError):
        bench.guard.step(bench.optimizer, torch.tensor(NAN), torch.tensor(NAN), 1)


@pytest.mark.parametrize(
    ("device", "fused", "scaled", "kind"),
    [
        ("cpu", True, False, HostGuard),
        ("meta", True, False, DeviceGuard),
        ("meta", False, False, HostGuard),
        ("meta", True, True, HostGuard),
    ],
)
def test_the_kernel_decides_where_it_can(device: str, fused: bool, scaled: bool, kind: Any) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], fused=fused)
    precision = ScaledPrecision(CPU) if scaled else Precision()
    strategy = Strategy(World(), torch.device(device))
    guard = select_guard(NonFinitePolicy.RAISE, optimizer, precision, strategy, lambda step: None)
    assert type(guard) is kind
