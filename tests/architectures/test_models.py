"""Does every architecture of transformers train and evaluate, with the numbers of the reference?"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests import helpers
from tests.architectures.architecture import Architecture
from tests.architectures.running import NUM_EVALUATED, Outcome, arrays, differences, train
from tests.architectures.table import NOTES, PAGE, agreement, listed, row
from tests.architectures.zoo import EVERY


def check(architecture: Architecture, folder: Path) -> int:
    """Train, evaluate, predict, save, load and compare; returns the number of parameters."""
    outcome = train(architecture, folder / "trained")
    check_training(outcome)
    check_evaluation(outcome)
    check_reload(outcome, folder / "saved")
    found = differences(architecture, folder)
    assert found.keys() == architecture.differs.keys(), found
    return outcome.parameters


def check_training(outcome: Outcome) -> None:
    """Two updates with finite losses and gradients that moved the weights."""
    assert len(outcome.rows) == 2
    for logged in outcome.rows:
        assert math.isfinite(logged["loss"])
        assert math.isfinite(logged["grad_norm"])
        assert logged["grad_norm"] > 0
    first, last = outcome.weights
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert all(value.isfinite().all() for value in last.values() if value.is_floating_point())


def check_evaluation(outcome: Outcome) -> None:
    """A finite loss before and after, which training changed, and outputs for all samples."""
    assert math.isfinite(outcome.before["eval_loss"])
    assert math.isfinite(outcome.after["eval_loss"])
    assert outcome.before["eval_loss"] != outcome.after["eval_loss"]
    assert any(len(array) == NUM_EVALUATED for array in arrays(outcome.predictions))


def check_reload(outcome: Outcome, folder: Path) -> None:
    """``from_pretrained`` finds what was saved."""
    outcome.model.save_pretrained(folder)
    helpers.assert_identical(
        type(outcome.model).from_pretrained(folder).state_dict(), outcome.model.state_dict()
    )


@pytest.mark.parametrize(
    ("family", "architecture"),
    [
        pytest.param(family, member, id=str(member), marks=[] if member.fast else pytest.mark.slow)
        for family, member in EVERY
    ],
)
def test_it_trains_and_evaluates_as_the_page_says(
    family: str, architecture: Architecture, tmp_path: Path
) -> None:
    parameters = check(architecture, tmp_path)
    assert row(family, architecture, parameters) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_lists_exactly_the_zoo() -> None:
    assert listed() == [(family, member.name, member.model, agreement(member)) for family, member in EVERY]
    text = PAGE.read_text(encoding="utf-8")
    assert f"these {len(EVERY)} models" in text
    assert text.endswith("\n".join(["", *NOTES, ""]))


def test_names_are_unique() -> None:
    names = [member.name for _, member in EVERY]
    assert len(set(names)) == len(names)
