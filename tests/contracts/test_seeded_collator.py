"""A collator with a generator of its own: does it go on after an interruption as if there had been none?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from etude import DataCollatorForLanguageModeling
from tests import helpers
from tests.contracts.resuming import BASE, Scenario, assert_same_run, break_off, finish
from tests.data.collators.tokenizers import wordpiece


class Filler(helpers.TokenTagger):
    """Predicts the tokens that are hidden."""

    def __init__(self) -> None:
        super().__init__(dropout=0.2)
        self.head = nn.Linear(12, helpers.VOCABULARY)

    def forward(self, input_ids: Any, labels: Any = None, attention_mask: Any = None) -> Any:
        """Padding does not matter here."""
        return super().forward(input_ids, labels)


class Masking(DataCollatorForLanguageModeling):
    """Whatever it draws from, the model gets tensors."""

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> Any:
        return super().__call__(features).convert_to_tensors("pt")


def scenario(kind: str, **arguments: Any) -> Scenario:
    """A run whose collator begins with its seed; it is made anew each time, as a script makes it."""
    masking = Masking(wordpiece(), mlm_probability=0.3, seed=4, return_tensors=kind)
    masked = replace(BASE, rows=lambda: helpers.tagged_rows(40), model=Filler, collator=masking)
    return masked.having(**arguments)


@pytest.mark.parametrize(("phase", "step"), [("on_step_end", 7), ("on_epoch_end", 10)])
@pytest.mark.parametrize(("kind", "workers"), [("pt", 0), ("np", 0), ("pt", 2)])
def test_masks_go_on_where_they_were(kind: str, workers: int, phase: str, step: int, tmp_path: Path) -> None:
    """Also when evaluations have drawn in between, and in loading processes."""
    arguments = {"dataloader_num_workers": workers}
    whole = finish(scenario(kind, **arguments), tmp_path / "whole")
    break_off(scenario(kind, **arguments), tmp_path / "broken", phase, step)
    assert_same_run(finish(scenario(kind, **arguments), tmp_path / "broken", resume=True), whole)


def test_evaluating_does_not_change_the_masks(tmp_path: Path) -> None:
    with_evaluation = finish(scenario("pt"), tmp_path / "evaluated")
    without = finish(scenario("pt", eval_strategy="no"), tmp_path / "plain")
    helpers.assert_identical(with_evaluation.weights, without.weights)
