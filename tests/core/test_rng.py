"""Can the random state be put back to where it was?"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.checkpoint.tensors import load_tensors
from etude.core import rng
from tests import helpers
from tests.properties import quick


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
    ]


@quick
@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_a_seed_draws_what_the_reference_draws(seed: int) -> None:
    drawn = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            lib.set_seed(seed)
        drawn.append(draw())
    assert drawn[0] == drawn[1]


def test_seeds_beyond_numpys_range_work() -> None:
    rng.set_seed(2**32 + 3)
    first = draw()
    rng.set_seed(2**32 + 3)
    assert draw() == first


def test_a_state_is_put_back_between_two_gaussians() -> None:
    random.gauss(0, 1)  # Python and NumPy make Gaussians in pairs and keep the second
    np.random.randn()
    state = rng.random_state()
    first = draw()
    rng.restore_random_state(state)
    assert draw() == first


def test_a_state_survives_a_file(tmp_path: Path) -> None:
    np.random.randn()
    torch.save(rng.random_state(), tmp_path / "state.pth")
    first = draw()
    rng.restore_random_state(load_tensors(tmp_path / "state.pth"))
    assert draw() == first


def test_what_is_undisturbed_stays_so_even_after_an_error() -> None:
    rng.set_seed(3)
    expected = draw()
    rng.set_seed(3)
    with pytest.raises(ZeroDivisionError):
        draw_and_fail()
    assert draw() == expected


@rng.undisturbed()
def draw_and_fail() -> None:
    draw()
    raise ZeroDivisionError


@quick
@given(st.lists(st.tuples(*[st.integers(0, 40)] * 3), min_size=2, unique=True))
def test_different_places_get_different_seeds(places: list[tuple[int, int, int]]) -> None:
    seeds = [rng.seed_for(7, *place) for place in places]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [rng.seed_for(7, *place) for place in places]


def test_another_seed_gives_another_place_seed() -> None:
    assert rng.seed_for(1, 0, 0) != rng.seed_for(2, 0, 0)
    assert isinstance(rng.seed_for(-1, 0), int)


def test_a_worker_is_seeded_by_pytorchs_seed() -> None:
    torch.manual_seed(11)
    rng.worker_seed(0)
    first = (random.random(), float(np.random.rand()))
    draw()
    rng.worker_seed(3)
    assert (random.random(), float(np.random.rand())) == first


def test_deterministic_algorithms_are_only_asked_for_on_request() -> None:
    try:
        rng.set_seed(1)
        assert not torch.are_deterministic_algorithms_enabled()
        rng.set_seed(1, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_full_determinism_sets_what_the_reference_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    was = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    for name in ("transformers", "etude"):
        environment: dict[str, str] = {}
        with helpers.library(name) as lib, monkeypatch.context() as patch:
            patch.setattr(os, "environ", environment)
            lib.enable_full_determinism(3, warn_only=True)
        modes = torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn.deterministic
        found.append((environment, modes, draw()))
        torch.use_deterministic_algorithms(was[0])
        torch.backends.cudnn.deterministic = was[1]
    assert found[0] == found[1]


def test_a_worker_of_any_process_draws_what_the_reference_draws() -> None:
    from transformers.trainer_utils import seed_worker

    drawn = []
    for function in (seed_worker, rng.seed_worker):
        torch.manual_seed(5)
        function(1, num_workers=2, rank=3)
        drawn.append(draw())
    assert drawn[0] == drawn[1]


class Own:
    """Has a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def get_rng_state(self) -> torch.Tensor:
        return self.generator.get_state()

    def set_rng_state(self, state: torch.Tensor) -> None:
        self.generator.set_state(state)

    def draw(self) -> float:
        return torch.rand((), generator=self.generator).item()


def test_parts_with_generators_of_their_own_are_followed_for_a_while() -> None:
    first, second = Own(), Own()
    with rng.following(first, None, second):
        second.draw()
        state = rng.random_state()
        expected = [first.draw(), second.draw()]
        with rng.undisturbed():
            first.draw()
        assert first.draw() != expected[0]
        rng.restore_random_state(state)
        assert [first.draw(), second.draw()] == expected
    assert "own" not in rng.random_state()
    rng.restore_random_state(state)  # nobody to give it to
    assert first.draw() != expected[0]


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (random.random, "Python's"),
        (np.random.rand, "NumPy's"),
        (lambda: torch.rand(1), "PyTorch's"),
        (int, None),
    ],
)
def test_who_has_drawn_is_seen(draw: Callable[[], object], name: str | None) -> None:
    with rng.undisturbed():
        before = rng.random_state()
        draw()
        assert rng.moved(before, rng.random_state()) == ([] if name is None else [name])


def test_a_process_knows_the_seed_of_the_batch_that_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rng, "_batch_seed", None)
    with rng.undisturbed():
        assert rng.batch_seed() is None
        rng.seed_batch(2**40 + 1)
        assert rng.batch_seed() == 2**40 + 1
        drawn = torch.rand(()).item()
        rng.seed_batch(2**40 + 1)
        assert torch.rand(()).item() == drawn
