"""Is a file of `torch.save` read without running anything that is in it?"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from etude.checkpoint.tensors import load_tensors
from etude.core.rng import random_state
from etude.errors import CheckpointError


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_pickle_is_executed(zipped: bool, tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "optimizer.pt"
    torch.save({"state": Malicious(trap)}, path, _use_new_zipfile_serialization=zipped)
    named = "posix.mkdir" if zipped else "more than tensors and plain values"
    with pytest.raises(CheckpointError, match=f"optimizer.pt holds {named}.*weights_only=False"):
        load_tensors(path)
    assert not trap.exists()


def of_numpy_1(path: Path) -> None:
    """Gives NumPy's function in a file the name that it had before version 2."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


@pytest.mark.parametrize("old", [False, True])
def test_random_states_are_read_from_files_of_any_numpy(old: bool, tmp_path: Path) -> None:
    state, path = random_state(), tmp_path / "rng_state.pth"
    torch.save(state, path, pickle_protocol=2)
    if old:
        before = path.read_bytes()
        of_numpy_1(path)
        assert path.read_bytes() != before
    found = load_tensors(path)
    assert found["python"] == state["python"]
    assert (found["numpy"][1] == state["numpy"][1]).all()
    assert torch.equal(found["cpu"], state["cpu"])


def test_reading_random_states_allows_nothing_afterwards(tmp_path: Path) -> None:
    torch.save(random_state(), tmp_path / "rng_state.pth")
    before = set(map(str, torch.serialization.get_safe_globals()))
    load_tensors(tmp_path / "rng_state.pth")
    assert set(map(str, torch.serialization.get_safe_globals())) == before


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"no such file", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."]
)
def test_a_file_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "scaler.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="scaler.pt"):
        load_tensors(tmp_path / "scaler.pt")
