"""However a global batch is cut, is the update the same?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import helpers
from tests.contracts import rank_workloads
from tests.contracts.splitting import CUTS, GLOBAL_BATCH, RANK_CUTS, SUBJECTS, Subject, take_steps, truth
from tests.distributed.launch import run_ranks

PRECISIONS = (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", SUBJECTS)
def test_cuts_on_one_process_give_the_true_gradient(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Gradient and logged loss of each cut are those of the whole batch, computed without a trainer."""
    subject = SUBJECTS[name]
    rows = subject.rows(GLOBAL_BATCH)
    loss, gradients = truth(subject, dtype, rows)
    for cut in CUTS:
        taken = take_steps(subject, dtype, cut, tmp_path, rows)
        assert len(taken.gradients) == 1
        assert helpers.relative_difference(taken.gradients[0], gradients) <= subject.tolerance(dtype), cut
        assert taken.logged == [pytest.approx(loss, rel=1e-6)], cut


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", [name for name, subject in SUBJECTS.items() if subject.has_lengths])
def test_a_token_budget_gives_the_true_gradient(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """However samples are grouped by length, the loss and the gradient are those of the whole batch."""
    subject = SUBJECTS[name]
    rows = subject.rows(GLOBAL_BATCH)
    loss, gradients = truth(subject, dtype, rows)
    for budget, cut in ((12, (16, 1)), (17, (4, 4)), (60, (8, 2))):
        taken = take_steps(subject, dtype, cut, tmp_path, rows, max_tokens_per_batch=budget)
        assert len(taken.gradients) == 1
        assert helpers.relative_difference(taken.gradients[0], gradients) <= subject.tolerance(dtype), budget
        assert taken.logged == [pytest.approx(loss, rel=1e-6)], budget


@pytest.mark.parametrize("size", rank_workloads.RAGGED_SIZES)
@pytest.mark.parametrize("name", SUBJECTS)
def test_last_batch_of_an_epoch_is_cut_like_any_other(name: str, size: int, tmp_path: Path) -> None:
    """A global batch of the samples that are left gives the same gradient in one micro-batch as in several."""
    subject = SUBJECTS[name]
    rows = subject.rows(size)
    whole = take_steps(subject, torch.float64, CUTS[0], tmp_path, rows)
    assert len(whole.gradients) == 2
    for cut in CUTS[1:]:
        taken = take_steps(subject, torch.float64, cut, tmp_path, rows)
        for ours, reference in zip(taken.gradients, whole.gradients, strict=True):
            assert helpers.relative_difference(ours, reference) <= subject.tolerance(torch.float64), cut
        assert taken.logged == pytest.approx(whole.logged, rel=1e-6)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 10_000), length=st.integers(1, 12), count=st.integers(2, GLOBAL_BATCH), data=st.data()
)
def test_any_labels_and_any_two_cuts_agree(
    seed: int, length: int, count: int, data: st.DataObject, tmp_path: Path
) -> None:
    """Random label masks, lengths and batch sizes: two random cuts give one gradient."""
    subject = SUBJECTS[data.draw(st.sampled_from(["token-tagger", "mean-compute-loss", "mean-loss-func"]))]
    rows = helpers.tagged_rows(count, seed, length)
    cuts = [(micro, -(-count // micro)) for micro in range(1, count + 1)]
    first, second = data.draw(st.lists(st.sampled_from(cuts), min_size=2, max_size=2, unique=True))
    ours, theirs = (take_steps(subject, torch.float64, cut, tmp_path, rows) for cut in (first, second))
    assert len(ours.gradients) == len(theirs.gradients) == 1
    assert helpers.relative_difference(ours.gradients[0], theirs.gradients[0]) <= 1e-12


@pytest.mark.parametrize(
    "name", ["token-tagger", "mean-compute-loss", "counting-compute-loss", "mean-loss-func"]
)
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_micro_batch_without_valid_items_adds_nothing(
    name: str, cut: tuple[int, int], tmp_path: Path
) -> None:
    """A micro-batch whose labels are all -100 has no mean of its own, and must not spoil the sum."""
    subject = SUBJECTS[name]
    rows = helpers.tagged_rows(GLOBAL_BATCH, seed=3)
    for index in (2, 7, 11):
        rows.rows[index]["labels"] = torch.full_like(rows.rows[index]["labels"], helpers.IGNORED)
    loss, gradients = truth(subject, torch.float64, rows)
    taken = take_steps(subject, torch.float64, cut, tmp_path, rows)
    assert helpers.relative_difference(taken.gradients[0], gradients) <= 1e-12
    assert taken.logged == [pytest.approx(loss, rel=1e-6)]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_logged_loss_is_the_mean_of_the_optimised_losses(cut: tuple[int, int], tmp_path: Path) -> None:
    """A row for three steps is the mean of three rows for one, and the training loss the mean of all."""
    subject = SUBJECTS["token-tagger"]
    rows = subject.rows(3 * GLOBAL_BATCH)
    each = take_steps(subject, torch.float32, cut, tmp_path, rows, logging_steps=1).logged
    together = take_steps(subject, torch.float32, cut, tmp_path, rows, logging_steps=3).logged
    assert together == [pytest.approx(sum(each) / 3, rel=1e-6)]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Gradients of both ranks, for every subject and cut."""
    folder = tmp_path_factory.mktemp("split")
    run_ranks(rank_workloads.take_all_steps, folder, world=2)
    return torch.load(folder / "steps-0.pt"), torch.load(folder / "steps-1.pt")


@pytest.mark.distributed
@pytest.mark.parametrize("cut", RANK_CUTS, ids=str)
@pytest.mark.parametrize("name", SUBJECTS)
def test_cuts_on_two_processes_give_the_true_gradient(
    name: str, cut: tuple[int, int], two_ranks: tuple[dict[Any, Any], dict[Any, Any]], tmp_path: Path
) -> None:
    """Each rank's optimizer gets the gradient of the whole batch, and the loss it logs is the batch's."""
    subject = SUBJECTS[name]
    loss, gradients = truth(subject, torch.float64, subject.rows(GLOBAL_BATCH))
    for rank in two_ranks:
        steps = rank[name, cut, GLOBAL_BATCH]
        assert len(steps["gradients"]) == 1
        assert helpers.relative_difference(steps["gradients"][0], gradients) <= subject.tolerance(
            torch.float64
        )
        assert steps["logged"] == [pytest.approx(loss, rel=1e-6)]


@pytest.mark.distributed
@pytest.mark.parametrize("cut", RANK_CUTS, ids=str)
@pytest.mark.parametrize("size", rank_workloads.RAGGED_SIZES)
@pytest.mark.parametrize("name", rank_workloads.RAGGED_SUBJECTS)
def test_last_batch_is_cut_over_two_processes(
    name: str,
    size: int,
    cut: tuple[int, int],
    two_ranks: tuple[dict[Any, Any], dict[Any, Any]],
    tmp_path: Path,
) -> None:
    """An odd number of samples on two ranks: none is repeated and none is left out."""
    subject: Subject = SUBJECTS[name]
    whole = take_steps(subject, torch.float64, CUTS[0], tmp_path, subject.rows(size))
    for rank in two_ranks:
        steps = rank[name, cut, size]
        for ours, reference in zip(steps["gradients"], whole.gradients, strict=True):
            assert helpers.relative_difference(ours, reference) <= subject.tolerance(torch.float64)
        assert steps["logged"] == pytest.approx(whole.logged, rel=1e-6)
