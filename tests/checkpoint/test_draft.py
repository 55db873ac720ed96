"""What is put off is written as it was; what cannot be copied is written at once, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from etude.checkpoint import draft as drafting
from etude.checkpoint.draft import Draft
from etude.checkpoint.snapshot import HostBuffers


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def test_what_is_put_off_is_written_as_it_was(tmp_path: Path) -> None:
    weight = torch.ones(3)
    draft = Draft(tmp_path, HostBuffers())
    draft.save_tensors(tmp_path / "a.pt", {"weight": weight})
    draft.settle()
    assert list(tmp_path.iterdir()) == []
    weight.zero_()
    draft.finish()
    assert load(tmp_path / "a.pt")["weight"].tolist() == [1, 1, 1]
    assert draft.in_the_way is None


def test_without_buffers_everything_is_written_at_once(tmp_path: Path) -> None:
    draft = Draft(tmp_path, None)
    draft.save_tensors(tmp_path / "a.pt", {"weight": torch.ones(2)})
    assert load(tmp_path / "a.pt")["weight"].tolist() == [1, 1]
    draft.settle()
    draft.finish()


def test_what_cannot_be_copied_is_written_at_once(tmp_path: Path) -> None:
    first, second, third = torch.ones(2), torch.eye(2).to_sparse(), torch.full((2,), 3.0)
    draft = Draft(tmp_path, HostBuffers())
    draft.save_tensors(tmp_path / "first.pt", first)
    draft.save_tensors(tmp_path / "second.pt", second)
    draft.save_tensors(tmp_path / "third.pt", third)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second.pt", "third.pt"]
    assert draft.in_the_way == "second.pt holds more than plain tensors and numbers"
    first.zero_()
    draft.settle()
    draft.finish()
    assert load(tmp_path / "first.pt").tolist() == [1, 1]
    assert torch.equal(load(tmp_path / "second.pt").to_dense(), torch.eye(2))


@pytest.mark.parametrize(("free", "fits"), [(None, True), (1001, True), (999, False)])
def test_a_copy_is_made_only_where_there_is_room(
    free: int | None, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafting, "available_bytes", lambda: free)
    buffers = HostBuffers()
    state = torch.ones(200)  # 800 bytes; a fifth of the memory stays free
    draft = Draft(tmp_path, buffers)
    draft.save_tensors(tmp_path / "a.pt", state)
    assert (tmp_path / "a.pt").exists() != fits
    assert (draft.in_the_way is None) == fits
    if fits:
        monkeypatch.setattr(drafting, "available_bytes", lambda: 0)
        buffers.begin()
        again = Draft(tmp_path, buffers)
        again.save_tensors(tmp_path / "b.pt", state)
        assert again.in_the_way == "a copy of b.pt (0.0 GB) does not fit into the 0.0 GB that are left"
        same = Draft(tmp_path, buffers)
        same.save_tensors(tmp_path / "a.pt", state)
        assert same.in_the_way is None  # its memory is there already


def test_files_below_the_folder_have_memory_of_their_own(tmp_path: Path) -> None:
    draft = Draft(tmp_path, HostBuffers())
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        draft.save_tensors(tmp_path / name / "state.pt", torch.full((2,), number))
    draft.finish()
    assert [load(tmp_path / name / "state.pt").tolist() for name in ("one", "two")] == [[0, 0], [1, 1]]


def test_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    draft = Draft(tmp_path, None)
    target = tmp_path / "full"
    target.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        draft.save_tensors(target, torch.ones(100_000))
