"""What of a run is pushed, and does it stay as it was when it was saved?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from etude.core.trees import files_below
from etude.hub import push


class Recorder:
    """A destination that keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, str], str, str | None]] = []

    def upload(self, folder: Path, message: str, path_in_repo: str | None = None) -> str:
        files = {str(p.relative_to(folder)): p.read_text() for p in files_below(folder)}
        self.sent.append((files, message, path_in_repo))
        return message


def run(folder: Path) -> tuple[Path, Path]:
    """An output folder and a checkpoint in it; each file holds its own name."""
    checkpoint = folder / "checkpoint-5"
    model = ["model.safetensors", "1_Pooling/config.json", "optimizer_notes/x", "README.md", "config.json"]
    state = [
        "optimizer.pt",
        "scheduler.pt",
        "scaler.pt",
        "rng_state.pth",
        "rng_state_1.pth",
        "trainer_state.json",
    ]
    state += [
        "etude_state.json",
        "manifest.json",
        "global_step5/mp_rank_00.pt",
        "pytorch_model_fsdp_0/.metadata",
        "optimizer_0/x",
    ]
    others = [
        "README.md",
        "log.jsonl",
        "runs/events",
        "config.json",
        "_secret",
        "checkpoint-1/x",
        ".staging-a/x",
    ]
    for path in [*(checkpoint / name for name in model + state), *(folder / name for name in others)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path.relative_to(folder)))
    return folder, checkpoint


@pytest.mark.parametrize("links", [True, False])
def test_the_model_and_what_lies_beside_the_checkpoints(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: Any) -> None:
        raise OSError("no links on this disk")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    folder, checkpoint = run(tmp_path)
    to = Recorder()
    pushed = push.checkpoint_push(to, folder, checkpoint, "step 5", "last-checkpoint")
    (folder / "log.jsonl").write_text("later")  # what happens before the push runs
    expected = {str(p.relative_to(checkpoint)): p.read_text() for p in files_below(checkpoint)}
    checkpoint.rename(folder / ".gone")
    assert pushed() == "step 5"
    (model, _, _), (whole, message, inside) = to.sent
    names = {"model.safetensors", "1_Pooling/config.json", "optimizer_notes/x", "config.json"}
    names |= {"README.md", "log.jsonl", "runs/events"}
    assert set(model) == names
    assert model["config.json"] == "checkpoint-5/config.json"
    assert model["README.md"] == "README.md"
    assert model["log.jsonl"] == "log.jsonl"
    assert (whole, message, inside) == (expected, "step 5, checkpoint", "last-checkpoint")
    assert not list(folder.glob(f"{push.SNAPSHOT_PREFIX}*"))


def test_a_snapshot_goes_also_when_the_push_fails(tmp_path: Path) -> None:
    class Failing(Recorder):
        def upload(self, *args: Any, **kwargs: Any) -> str:
            raise OSError("network")

    folder, checkpoint = run(tmp_path)
    pushed = push.checkpoint_push(Failing(), folder, checkpoint, "step 5", None)
    with pytest.raises(OSError, match="network"):
        pushed()
    assert not list(folder.glob(f"{push.SNAPSHOT_PREFIX}*"))


def test_two_snapshots_of_one_checkpoint_do_not_meet(tmp_path: Path) -> None:
    folder, checkpoint = run(tmp_path)
    to = Recorder()
    pushes = [push.checkpoint_push(to, folder, checkpoint, str(i), None) for i in range(2)]
    for pushed in pushes:
        pushed()
    assert to.sent[0][0] == to.sent[1][0]


def test_large_files_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "LARGEST_COPY", 3)
    (tmp_path / "small").write_text("abc")
    (tmp_path / "large").write_text("abcd")
    for name in ("small", "large"):
        push.copy(tmp_path / name, tmp_path / f"{name}-2")
    assert not (tmp_path / "small").samefile(tmp_path / "small-2")
    assert (tmp_path / "large").samefile(tmp_path / "large-2")
