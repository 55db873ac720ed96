"""Does the manifest notice every change to a file, and to itself?"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.checkpoint import manifest as manifests
from etude.checkpoint.manifest import Manifest, describe_all, library_versions, matches
from etude.errors import CheckpointError
from tests.properties import quick


def written(folder: Path, **content: bytes) -> Manifest:
    """A folder with these files, and its manifest."""
    (folder / "inner").mkdir(parents=True)
    for name, data in content.items():
        (folder / "inner" / name).write_bytes(data)
    made = Manifest(3, 2, describe_all(folder), {"libraries": {"torch": "2"}})
    made.save(folder)
    return made


def test_it_says_what_was_written(tmp_path: Path) -> None:
    written(tmp_path, a=b"first", b=b"")
    found = Manifest.load(tmp_path)
    assert found == Manifest(3, 2, describe_all(tmp_path), {"libraries": {"torch": "2"}})
    assert found.files["inner/a"] == {"size": 5, "sha256": hashlib.sha256(b"first").hexdigest()}
    assert set(found.files) == {"inner/a", "inner/b"}  # not itself
    found.verify(tmp_path)


def test_a_large_file_is_hashed_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "BLOCK", 4)
    made = written(tmp_path, a=b"0123456789", b=b"0123")
    hashes = b"".join(hashlib.sha256(part).digest() for part in (b"0123", b"4567", b"89"))
    assert made.files["inner/a"] == {"size": 10, "sha256_of_blocks": hashlib.sha256(hashes).hexdigest()}
    assert made.files["inner/b"] == {"size": 4, "sha256": hashlib.sha256(b"0123").hexdigest()}
    made.verify(tmp_path)
    (tmp_path / "inner" / "a").write_bytes(b"0123456780")
    with pytest.raises(CheckpointError, match="the content of inner/a has changed"):
        made.verify(tmp_path)


@quick
@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(1, 9))
def test_only_the_same_bytes_match(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes, block: int
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "BLOCK", block)
        (entry,) = written(folder, a=before).files.values()
        (folder / "inner" / "a").write_bytes(after)
        assert matches(folder / "inner" / "a", entry) == (before == after)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "inner/a is gone"),
        (b"longer", "inner/a has 6 bytes instead of 5"),
        (b"other", "content of inner/a"),
    ],
)
def test_a_file_that_differs_is_named(content: bytes | None, problem: str, tmp_path: Path) -> None:
    made = written(tmp_path, a=b"first", b=b"second")
    path = tmp_path / "inner" / "a"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{tmp_path.name} is broken: .*{problem}"):
        made.verify(tmp_path)
    made.verify(tmp_path, only=lambda name: name == "inner/b")
    if content == b"other":
        made.verify_sizes(tmp_path)
    else:
        with pytest.raises(CheckpointError, match=problem):
            made.verify_sizes(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda stored: stored["files"].pop("inner/a"),
        lambda stored: stored["files"]["inner/a"].update(sha256="0" * 64),
        lambda stored: stored.update(step=4),
        lambda stored: stored.pop("checksum"),
        lambda stored: stored.clear(),
    ],
    ids=["entry gone", "other hash", "other step", "no checksum", "empty"],
)
def test_an_edited_manifest_is_not_believed(edit: Any, tmp_path: Path) -> None:
    written(tmp_path, a=b"first")
    path = tmp_path / "manifest.json"
    stored = json.loads(path.read_text())
    edit(stored)
    path.write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match="manifest.json cannot be used"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '"text"'])
def test_what_is_no_manifest_is_not_believed(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match="manifest.json cannot be used"):
        Manifest.load(tmp_path)


def test_a_manifest_of_a_later_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "FORMAT", 99)
        written(tmp_path, a=b"first")
    with pytest.raises(CheckpointError, match="its format 99 is that of another version of etude"):
        Manifest.load(tmp_path)


def test_a_checkpoint_of_the_reference_has_none(tmp_path: Path) -> None:
    assert Manifest.load(tmp_path) is None
    (tmp_path / "etude_state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="manifest.json is gone"):
        Manifest.load(tmp_path)


def test_versions_are_those_that_are_installed() -> None:
    versions = library_versions()
    assert {"etude", "torch", "numpy", "safetensors"} <= set(versions)
    assert torch.__version__.startswith(versions["torch"].partition("+")[0])
