"""Helpers under the reference's names: the reference's results for the same values."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import trainer_pt_utils, trainer_utils

import etude
from etude import utilities
from tests.distributed.launch import run_ranks

# --- tensors and arrays ----------------------------------------------------------------------------------------------


def filled(shape: tuple[int, ...], as_tensor: bool) -> Any:
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    return torch.from_numpy(array) if as_tensor else array


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two batches of equal nesting, whose leaves may differ in the first two dimensions."""
    as_tensor, size = draw(st.booleans()), st.integers(1, 4)
    rest = tuple(draw(st.lists(size, max_size=2)))
    both = [filled((draw(size), draw(size), *rest), as_tensor) for _ in "ab"]
    flat = [filled((draw(size),), as_tensor) for _ in "ab"]
    point = [filled((), as_tensor) for _ in "ab"]
    first, second = ({"x": (a, [b]), "y": c} for a, b, c in zip(both, flat, point, strict=True))
    return first, second


def assert_same(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@given(pairs())
def test_joining_is_that_of_the_reference(pair: tuple[Any, Any]) -> None:
    joined = etude.nested_concat(*pair, padding_index=-7)
    reference = trainer_pt_utils.nested_concat(*pair, padding_index=-7)
    assert_same(joined, reference)
    assert etude.find_batch_size(pair) == trainer_pt_utils.find_batch_size(pair)
    cut = {"x": joined["x"]}
    assert_same(etude.nested_truncate(cut, 1), trainer_pt_utils.nested_truncate(cut, 1))


def test_what_is_no_tensor_cannot_be_joined() -> None:
    with pytest.raises(TypeError, match="not str"):
        etude.nested_concat({"a": "x"}, {"a": "y"})


def test_numbers_become_plain() -> None:
    metrics = {
        "a": np.float32(0.5),
        "b": [torch.tensor([2])],
        "c": (np.int64(3), "text"),
        "d": torch.zeros(2),
    }
    ours, theirs = etude.denumpify_detensorize(metrics), trainer_utils.denumpify_detensorize(metrics)
    assert ours.pop("d") is theirs.pop("d")
    assert ours == theirs == {"a": 0.5, "b": [2], "c": (3, "text")}
    assert type(ours["a"]) is float


# --- functions and models --------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.body = nn.Sequential(
            nn.Linear(2, 2), nn.LayerNorm(2), nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2))
        )
        self.norm = nn.Linear(2, 2, bias=False)


@pytest.mark.parametrize("types", [[], [nn.LayerNorm], [nn.Linear, nn.LayerNorm]])
@pytest.mark.parametrize("names", [None, ["bias"], [r"(?:^|\.)norm(?:$|\.)", "^scale", r"^0\."]])
def test_parameter_names_are_those_of_the_reference(types: list[type], names: list[str] | None) -> None:
    expected = trainer_pt_utils.get_parameter_names(Net(), types, names)
    assert etude.get_parameter_names(Net(), types, names) == expected
    assert etude.get_model_param_count(Net()) == trainer_pt_utils.get_model_param_count(Net())


def test_arguments_are_counted() -> None:
    def function(a: int, b: int, c: int = 0) -> None: ...

    partial = functools.partial(function, 1, c=2)
    assert (etude.number_of_arguments(function), etude.number_of_arguments(partial)) == (3, 1)


def test_the_collator_takes_the_references_arguments() -> None:
    collator = etude.RemoveColumnsCollator(
        data_collator=list, signature_columns=["x"], logger=None, model_name="Net", description="training"
    )
    assert collator([{"x": 1, "y": 2}, {"x": 3}]) == [{"x": 1}, {"x": 3}]


def test_enumerations_have_the_references_members() -> None:
    from transformers import debug_utils, training_args

    for ours, theirs in [
        (etude.OptimizerNames, training_args.OptimizerNames),
        (etude.HubStrategy, trainer_utils.HubStrategy),
        (etude.ParallelMode, training_args.ParallelMode),
        (etude.DebugOption, debug_utils.DebugOption),
    ]:
        assert [(m.name, m.value) for m in ours] == [(m.name, m.value) for m in theirs]
    assert etude.EvaluationStrategy is etude.IntervalStrategy


# --- checkpoints -----------------------------------------------------------------------------------------------------

FOLDERS = st.lists(st.sampled_from([1, 5, 9, 10, 11, 100, 250]), min_size=1, max_size=5, unique=True)


@given(
    steps=FOLDERS,
    best=st.integers(0, 4),
    use_mtime=st.booleans(),
    keep=st.sampled_from([None, 0, 1, 2, 3, 9]),
)
def test_the_same_checkpoints_stay(
    steps: list[int], best: int, use_mtime: bool, keep: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    left = []
    for lib in (etude, trainer_utils):
        folder = tmp_path_factory.mktemp("run")
        for age, step in enumerate(steps):  # the order of times differs from that of numbers
            path = folder / f"checkpoint-{step}"
            path.mkdir()
            os.utime(path, (10 * age, 10 * age))
        (folder / "checkpoints").mkdir()
        best_path = str(folder / f"checkpoint-{steps[best]}") if best < len(steps) else None
        order = lib.sort_checkpoints(str(folder), use_mtime=use_mtime, best_model_checkpoint=best_path)
        lib.rotate_checkpoints(str(folder), keep, best_model_checkpoint=best_path, use_mtime=use_mtime)
        left.append(([Path(path).name for path in order], sorted(p.name for p in folder.iterdir())))
    assert left[0] == left[1]


def test_a_folder_that_only_looks_like_a_checkpoint_stays(tmp_path: Path) -> None:
    for name in ("checkpoint-1", "checkpoint-2", "checkpoint-1-copy"):
        (tmp_path / name).mkdir()
    etude.rotate_checkpoints(str(tmp_path), 1)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-1-copy"}


# --- processes -------------------------------------------------------------------------------------------------------


def test_without_processes_nothing_is_gathered() -> None:
    value = (torch.ones(2), None)
    assert etude.nested_gather(value, etude.ParallelMode.NOT_PARALLEL) is value
    with pytest.raises(RuntimeError, match="torchrun"):
        etude.distributed_concat(value)
    with etude.torch_distributed_zero_first(-1):
        pass
    assert [etude.is_main_process(rank) for rank in (-1, 0, 1)] == [True, True, False]


def gathering(folder: Path) -> None:
    """Both processes: what they gather, and who was first."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    with utilities.torch_distributed_zero_first(rank):
        if rank == 1:
            assert (folder / "0.pt").exists()
        mine = {"x": torch.full((2, 3), rank), "y": [torch.tensor(rank + 0.5)]}
        torch.save(rank, folder / f"{rank}.pt")
    torch.save(utilities.nested_gather(mine, etude.ParallelMode.DISTRIBUTED), folder / f"all-{rank}.pt")


@pytest.mark.slow
@pytest.mark.distributed
def test_processes_gather_and_take_turns(tmp_path: Path) -> None:
    run_ranks(gathering, tmp_path, world=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"all-{rank}.pt")
        assert found["x"].tolist() == [[0] * 3] * 2 + [[1] * 3] * 2
        assert found["y"][0].tolist() == [0.5, 1.5]
