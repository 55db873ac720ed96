"""Is a checkpoint without a manifest, as the reference writes it, judged by how its files are built?"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from etude import TrainerState
from etude.checkpoint.manifest import Manifest, describe_all
from etude.checkpoint.verify import _OLD_TORCH_FILE, is_foreign, problem_of, verify, verify_weights
from etude.errors import CheckpointError
from tests.properties import quick

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.int64)}


def of_the_reference(folder: Path) -> Path:
    """A checkpoint with every kind of file."""
    TrainerState(global_step=3).save_to_json(str(folder / "trainer_state.json"))
    save_file(TENSORS, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "pytorch_model.bin", "training_args.bin"):
        torch.save(TENSORS, folder / name)
    (folder / "adapter").mkdir()
    save_file(TENSORS, folder / "adapter" / "adapter_model.safetensors")
    return folder


FILES = (
    "trainer_state.json",
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state_0.pth",
    "pytorch_model.bin",
    "training_args.bin",
    "adapter/adapter_model.safetensors",
)


def test_a_whole_one_is_good(tmp_path: Path) -> None:
    verify(of_the_reference(tmp_path))
    verify_weights(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_named(name: str, left: float, tmp_path: Path) -> None:
    path = of_the_reference(tmp_path) / name
    content = path.read_bytes()
    path.write_bytes(content[: min(int(len(content) * left), len(content) - 2)])
    with pytest.raises(CheckpointError, match=f"{tmp_path.name} is broken: {name}"):
        verify(tmp_path)


@quick
@given(st.data())
def test_a_changed_byte_in_the_tensors_of_a_torch_file_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """PyTorch itself would not look."""
    path = tmp_path_factory.mktemp("flip") / "optimizer.pt"
    torch.save({"state": torch.arange(100)}, path)
    content = bytearray(path.read_bytes())
    start = content.index(torch.arange(100).numpy().tobytes())
    content[start + data.draw(st.integers(0, 799))] ^= 1 << data.draw(st.integers(0, 7))
    assert problem_of(path) is None
    path.write_bytes(content)
    assert (problem_of(path) or "").startswith("is damaged in")


@quick
@given(st.binary(max_size=64).filter(lambda content: not content.startswith(_OLD_TORCH_FILE)))
def test_whatever_is_in_a_file_there_is_an_answer(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("optimizer.pt", "model.safetensors", "trainer_state.json", "model.safetensors.index.json"):
        (folder / name).write_bytes(content)
        assert problem_of(folder / name) is not None


def test_a_file_of_before_pytorch_1_6_is_known(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "optimizer.pt", _use_new_zipfile_serialization=False)
    assert problem_of(tmp_path / "optimizer.pt") is None


@pytest.mark.parametrize(
    "header", [b"{", b"[]", b"{}x", json.dumps({"a": {"data_offsets": []}}).encode(), b'{"a": {}}']
)
def test_a_header_of_safetensors_that_makes_no_sense(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert problem_of(path) == "has a header that cannot be read"


def test_a_part_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    of_the_reference(tmp_path)
    parts = {name: f"model-{name}.safetensors" for name in TENSORS}
    for name, part in parts.items():
        save_file({name: TENSORS[name]}, tmp_path / part)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    verify(tmp_path)
    (tmp_path / parts["b"]).unlink()
    with pytest.raises(CheckpointError, match="index.json names model-b.safetensors, which is gone"):
        verify_weights(tmp_path)


def test_files_of_other_kinds_are_not_judged(tmp_path: Path) -> None:
    of_the_reference(tmp_path)
    (tmp_path / "vocabulary.bin").write_bytes(b"mine")
    (tmp_path / "tokenizer.json").write_text("not quite { JSON")
    verify(tmp_path)


@pytest.mark.parametrize("manifest", [True, False])
def test_a_checkpoint_needs_its_state(manifest: bool, tmp_path: Path) -> None:
    (of_the_reference(tmp_path) / "trainer_state.json").unlink()
    if manifest:
        Manifest(3, 1, describe_all(tmp_path), {}).save(tmp_path)
    with pytest.raises(CheckpointError, match="has no trainer_state.json"):
        verify(tmp_path)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("name", "counts"), [("model.safetensors", True), ("optimizer.pt", False)])
def test_of_the_best_model_only_the_weights_count(name: str, counts: bool, tmp_path: Path) -> None:
    of_the_reference(tmp_path)
    Manifest(3, 1, describe_all(tmp_path), {}).save(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(CheckpointError, match=name):
        verify(tmp_path)
    verify(tmp_path, contents=False)
    if counts:
        with pytest.raises(CheckpointError, match=name):
            verify_weights(tmp_path)
    else:
        verify_weights(tmp_path)


@pytest.mark.parametrize("name", [None, "notes.txt", "model.safetensors"])
def test_a_folder_of_somebody_else(name: str | None, tmp_path: Path) -> None:
    if name is not None:
        (tmp_path / name).write_text("mine")
    assert is_foreign(tmp_path)


@pytest.mark.parametrize("name", ["trainer_state.json", "manifest.json", "optimizer.pt", "etude_state.json"])
def test_what_is_left_of_a_checkpoint_is_not_somebody_elses(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    assert not is_foreign(tmp_path)


def test_a_disk_that_cannot_be_read_is_a_broken_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_reference(tmp_path)

    def fail(*args: Any) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(zipfile.ZipFile, "testzip", fail)
    with pytest.raises(CheckpointError, match="Input/output error"):
        verify(tmp_path)
