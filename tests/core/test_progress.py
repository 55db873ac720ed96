"""Are position and running losses the same after a checkpoint, to the bit?"""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.core.progress import Progress
from tests.properties import quick

CPU = torch.device("cpu")


def resumed(progress: Progress) -> Progress:
    """The same after it went through a file."""
    other = Progress(CPU)
    other.load_state_dict(json.loads(json.dumps(progress.state_dict())))
    return other


@quick
@given(
    st.lists(st.floats(width=32, allow_infinity=False, allow_nan=False), min_size=2),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.data(),
)
def test_a_sum_that_was_interrupted_is_the_same_sum(
    losses: list[float], dtype: torch.dtype, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(losses)))
    straight, first = Progress(CPU), Progress(CPU)
    for loss in losses:
        straight.add_loss(torch.tensor(loss, dtype=dtype))
    for loss in losses[:cut]:
        first.add_loss(torch.tensor(loss, dtype=dtype))
    second = resumed(first)
    for loss in losses[cut:]:
        second.add_loss(torch.tensor(loss, dtype=dtype))
    torch.testing.assert_close(second.pending_loss(), straight.pending_loss(), rtol=0, atol=0, equal_nan=True)


def test_everything_else_survives_too() -> None:
    progress = Progress(CPU)
    progress.micro_steps, progress.stop_epoch, progress.learning_rate = 5, True, 0.1 + 0.2
    progress.grad_norm = torch.tensor(1 / 3)
    progress.mark_logged(4, 2.5)
    progress.finish_epoch()
    progress.micro_steps = 2
    other = resumed(progress)
    assert other.state_dict() == progress.state_dict()
    assert (other.epoch, other.micro_steps, other.last_logged_step) == (1, 2, 4)
    assert other.grad_norm is not None
    assert other.grad_norm.item() == torch.tensor(1 / 3).item()


def test_a_loss_that_is_not_finite_survives() -> None:
    progress = Progress(CPU)
    progress.add_loss(torch.tensor(math.nan))
    assert math.isnan(resumed(progress).pending_loss().item())


def test_logging_files_the_pending_losses() -> None:
    progress = Progress(CPU)
    assert progress.pending_loss().item() == 0
    progress.add_loss(torch.tensor(1.0))
    progress.add_loss(torch.tensor(2.0))
    progress.mark_logged(2, 3.0)
    progress.add_loss(torch.tensor(4.0))
    assert progress.pending_loss().item() == 4
    assert progress.total_loss(4.0) == pytest.approx(7.0)
    assert progress.last_logged_step == 2


def test_the_next_epoch_starts_at_its_beginning() -> None:
    progress = Progress(CPU)
    progress.micro_steps = 9
    progress.finish_epoch()
    assert (progress.epoch, progress.micro_steps) == (1, 0)
