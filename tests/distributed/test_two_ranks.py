"""Two ranks: do they train, evaluate, save and resume as one process does with the same global batch?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import helpers
from tests.distributed import workloads
from tests.distributed.launch import run_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(200)]
Found = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the launch leaves its files."""
    path = tmp_path_factory.mktemp("two-ranks")
    run_ranks(workloads.run_training_suite, path, world=2)
    return path


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[Found]:
    """What each rank reports."""
    return [torch.load(folder / f"found-{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each rank reports of uneven data."""
    path = tmp_path_factory.mktemp("uneven")
    run_ranks(workloads.run_uneven_suite, path, world=2)
    return [torch.load(path / f"uneven-{rank}.pt", weights_only=False) for rank in range(2)]


def assert_close_rows(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """The same keys, and numbers to rounding; the epoch counts micro-batches, so that it depends on the cut."""
    assert [sorted(row) for row in ours] == [sorted(row) for row in theirs]
    for mine, reference in zip(ours, theirs, strict=True):
        assert {**mine, "epoch": 0} == pytest.approx({**reference, "epoch": 0}, rel=1e-5, abs=1e-7)
    assert ours[-1]["epoch"] == theirs[-1]["epoch"]


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_training_equals_that_of_one_process(windows: int, ranks: list[Found], tmp_path: Path) -> None:
    """Weights, every log row and the evaluations agree to rounding, on each rank, for each cut."""
    alone = workloads.train(tmp_path, **workloads.cut(1, 1))
    assert alone["step"] == workloads.STEPS
    for rank in ranks:
        found = rank["plain"][windows]
        assert found["step"] == alone["step"]
        assert helpers.relative_difference(found["weights"], alone["weights"]) <= 1e-5
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert_close_rows(ranks[0]["plain"][windows]["rows"], alone["rows"])


def test_ranks_hold_the_same_weights(ranks: list[Found]) -> None:
    """Bit for bit, also with dropout, and after a resume."""
    for key in ("whole", "resumed"):
        helpers.assert_identical(ranks[1][key]["weights"], ranks[0][key]["weights"])


def test_tokens_of_all_ranks_are_counted(ranks: list[Found], tmp_path: Path) -> None:
    """Each row says how many tokens all ranks have seen, as one process counts them."""
    alone = workloads.train(
        tmp_path, model=workloads.Counted, include_num_input_tokens_seen="all", **workloads.cut(1, 1)
    )
    seen = [[row["num_input_tokens_seen"] for row in found["rows"]] for found in (ranks[0]["counted"], alone)]
    assert seen[0] == seen[1]
    assert seen[0][-1] == 2 * 33 * helpers.NUM_FEATURES


@pytest.mark.parametrize("size", workloads.EVALUATED_SIZES)
def test_metrics_by_batch_see_every_sample_once(size: int, ranks: list[Found], tmp_path: Path) -> None:
    """On each rank the same metrics as one process has."""
    alone = workloads.evaluate_by_batch(tmp_path, size)
    assert alone["eval_seen"] == size
    for rank in ranks:
        assert rank["by_batch"][size] == pytest.approx(alone, rel=1e-6)


def test_resumed_run_equals_the_uninterrupted_run(ranks: list[Found]) -> None:
    """With dropout, broken off in the middle of an epoch: bit for bit, on each rank."""
    for rank in ranks:
        assert rank["interrupted"]
        helpers.assert_identical(rank["resumed"]["weights"], rank["whole"]["weights"])
        assert rank["resumed"]["loss"] == rank["whole"]["loss"]
    assert ranks[0]["resumed"]["rows"] == ranks[0]["whole"]["rows"]


def test_checkpoint_has_one_set_of_weights_and_all_random_states(folder: Path, ranks: list[Found]) -> None:
    """Rank 0 writes what is shared, every rank its random state."""
    for step in (4, 8, 10):
        names = {path.name for path in (folder / "whole" / f"checkpoint-{step}").iterdir()}
        assert names == {
            "model.safetensors",
            "optimizer-00000-of-00002.pt",
            "optimizer-00001-of-00002.pt",
            "scheduler.pt",
            "rng_state_0.pth",
            "rng_state_1.pth",
            "trainer_state.json",
            "training_args.bin",
            "training_args.json",
            "etude_state.json",
            "manifest.json",
        }
    assert len(set(ranks[0]["written"])) == 3
    assert ranks[1]["written"] == []


@pytest.mark.parametrize("windows", [1, 4])
def test_one_process_goes_on_from_a_checkpoint_of_two(
    windows: int, folder: Path, ranks: list[Found], tmp_path: Path
) -> None:
    """With the same global batches, whatever the arguments say of accumulation: weights and rows to rounding."""
    checkpoint = str(folder / "plain-2" / "checkpoint-4")
    asked = {**workloads.cut(1, windows), "gradient_accumulation_steps": 1}
    alone = workloads.train(tmp_path, resume=checkpoint, **asked)
    both = ranks[0]["plain"][2]
    assert alone["step"] == both["step"]
    assert alone["loss"] == pytest.approx(both["loss"], rel=1e-5)
    assert helpers.relative_difference(alone["weights"], both["weights"]) <= 1e-5
    assert_close_rows(alone["rows"], both["rows"])


@pytest.mark.parametrize("case", workloads.UNEVEN_CASES, ids=str)
def test_uneven_data_equals_one_process(
    case: tuple[int, int, str], uneven: list[Found], tmp_path: Path
) -> None:
    """Sizes that no cut divides neither hang nor repeat a sample, and give the updates of one process."""
    size, _, family = case
    alone = workloads.train_uneven(tmp_path, 1, 1, size, family)
    both = [rank[case] for rank in uneven]
    helpers.assert_identical(both[1]["weights"], both[0]["weights"])
    for found in both:
        assert found["step"] == alone["step"]
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        assert helpers.relative_difference(found["weights"], alone["weights"]) <= 1e-5
    read, once = Counter(both[0]["read"] + both[1]["read"]), Counter(dict.fromkeys(range(size), 2))
    assert not once - read
    assert set(read - once) <= {0}  # a rank without a sample reads the first one to stay in step, for nothing


@pytest.mark.parametrize("case", workloads.UNEVEN_CASES, ids=str)
def test_ranks_meet_in_the_same_collectives(case: tuple[int, int, str], uneven: list[Found]) -> None:
    """Also a rank that has run out of samples takes part in each, with the same type and shape."""
    first, second = (rank[case]["collectives"] for rank in uneven)
    assert first == second


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_gradients_are_reduced_once_an_update(windows: int, ranks: list[Found]) -> None:
    """All micro-batches but the last of a window leave the gradients where they are."""
    for rank in ranks:
        assert rank["reductions"][windows] == {"reductions": 4, "step": 4}
