"""Do the parts of an optimizer's state make the whole again, for any state and any number of processes?"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.checkpoint.files import optimizer_file
from etude.checkpoint.sharding import joined, optimizer_files, part_of
from etude.checkpoint.snapshot import size_in_bytes
from etude.errors import CheckpointError
from tests.properties import quick

entries = st.fixed_dictionaries({"size": st.integers(0, 50), "step": st.integers(0, 9)}).map(
    lambda drawn: {"exp_avg": torch.rand(drawn["size"]), "step": torch.tensor(float(drawn["step"]))}
)
states = st.dictionaries(st.integers(0, 40) | st.text(max_size=2), entries, max_size=12)


@quick
@given(states, st.integers(1, 9))
def test_the_parts_make_the_whole(state: dict[Any, Any], size: int) -> None:
    whole = {"state": state, "param_groups": [{"lr": 0.1, "params": list(state)}], "mode": "train"}
    parts = [part for rank in range(size) if (part := part_of(whole, rank, size)) is not None]
    again = joined(parts)
    assert again.keys() == whole.keys()
    assert again["param_groups"] == whole["param_groups"]
    assert again["state"].keys() == state.keys()
    assert all(again["state"][key] is state[key] for key in state)
    assert sum(len(part["state"]) for part in parts) == len(state)


@quick
@given(states, st.integers(2, 6))
def test_all_write_about_as_much(state: dict[Any, Any], size: int) -> None:
    parts = [part_of({"state": state}, rank, size) for rank in range(size)]
    if len(state) < size:
        assert parts == [{"state": state}] + [None] * (size - 1)
        return
    loads = [size_in_bytes(part) for part in parts]
    largest = max(size_in_bytes(entry) for entry in state.values())
    assert max(loads) - min(loads) <= largest


@pytest.mark.parametrize("whole", [{"param_groups": []}, {"state": [torch.ones(2)]}, {"base": {"state": {}}}])
def test_a_state_of_another_form_is_written_by_one(whole: dict[str, Any]) -> None:
    assert part_of(whole, 0, 4) is whole
    assert part_of(whole, 1, 4) is None
    assert joined([whole]) is whole


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


def test_the_files_of_a_checkpoint_are_found(tmp_path: Path) -> None:
    assert optimizer_files(tmp_path) == []
    names = [optimizer_file(rank, 3) for rank in range(3)]
    touch(tmp_path, *names)
    assert [path.name for path in optimizer_files(tmp_path)] == names
    touch(tmp_path, "optimizer.pt")
    assert [path.name for path in optimizer_files(tmp_path)] == ["optimizer.pt"]


@pytest.mark.parametrize("gone", range(3))
def test_a_part_that_is_gone_is_named(gone: int, tmp_path: Path) -> None:
    touch(tmp_path, *(optimizer_file(rank, 3) for rank in range(3) if rank != gone))
    with pytest.raises(CheckpointError, match=optimizer_file(gone, 3)):
        optimizer_files(tmp_path)


def test_real_optimizers_go_on_from_parts() -> None:
    def stepped(state: Any = None) -> tuple[list[torch.Tensor], Any]:
        torch.manual_seed(3)
        weights = [torch.nn.Parameter(torch.randn(count)) for count in (3, 5, 1, 4)]
        optimizer = torch.optim.AdamW(weights, lr=0.1)
        if state is not None:
            optimizer.load_state_dict(copy.deepcopy(state))
        for _ in range(2):
            sum((weight**2).sum() for weight in weights).backward()  # type: ignore[union-attr]
            optimizer.step()
            optimizer.zero_grad()
        return [weight.detach() for weight in weights], optimizer.state_dict()

    _, state = stepped()
    parts: Any = [part_of(state, rank, 3) for rank in range(3)]
    from_parts, from_whole = stepped(joined(parts))[0], stepped(state)[0]
    assert all(torch.equal(*pair) for pair in zip(from_parts, from_whole, strict=True))
