"""Is a checkpoint either complete or not there, and is nobody else's folder ever touched?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude import get_last_checkpoint
from etude.checkpoint import store as storing
from etude.checkpoint.store import CheckpointStore, checkpoint_steps
from etude.checkpoint.writer import CheckpointWriter
from etude.core.world import World
from etude.errors import CheckpointError
from etude.strategies.base import Strategy
from tests.properties import quick

STATE = "trainer_state.json"


def new_store(folder: Path, strategy: Strategy | None = None) -> CheckpointStore:
    return CheckpointStore(str(folder), strategy or Strategy(World(), torch.device("cpu")))


def write(store: CheckpointStore, step: int, fill: Any) -> Path:
    """Writes a checkpoint at once."""
    writer = CheckpointWriter(store, store._strategy)
    writer.save(step, fill, {}, lambda: None, wait=True)
    return store.path(step)


def fill_with(text: str) -> Any:
    def fill(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "data").write_text(text)
        (folder / STATE).write_text("{}")

    return fill


def written(folder: Path, *steps: int) -> CheckpointStore:
    store = new_store(folder)
    store.begin(0)
    for step in steps:
        write(store, step, fill_with(str(step)))
    return store


def foreign(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / STATE).write_text("mine")
    return path


def test_a_checkpoint_is_written_as_a_whole(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    seen: list[Any] = []

    def fill(folder: Path) -> None:
        fill_with("content")(folder)
        seen.append((folder.name, get_last_checkpoint(str(tmp_path)), store.path(3).exists()))

    target = write(store, 3, fill)
    assert seen == [(".staging-checkpoint-3", None, False)]
    assert target == tmp_path / "checkpoint-3"
    assert (target / "inner" / "data").read_text() == "content"
    assert os.listdir(tmp_path) == ["checkpoint-3"]


def test_a_checkpoint_that_fails_does_not_become_visible(tmp_path: Path) -> None:
    store = written(tmp_path, 1)

    def fail(folder: Path) -> None:
        fill_with("half")(folder)
        raise OSError("disk full")

    with pytest.raises(CheckpointError, match=r"step . could not be written.*disk full"):
        write(store, 2, fail)
    with pytest.raises(CheckpointError, match=r"step . could not be written.*disk full"):
        write(store, 1, fail)
    assert store.steps() == [1]
    assert (store.path(1) / "inner" / "data").read_text() == "1"


def test_a_failure_elsewhere_is_a_failure_here(tmp_path: Path) -> None:
    class OtherFails(Strategy):
        def gather_objects(self, value: Any) -> list[Any]:
            return [value, "Another process has no room."]

    store = new_store(tmp_path, OtherFails(World(), torch.device("cpu")))
    with pytest.raises(CheckpointError, match="Another process has no room"):
        write(store, 1, fill_with("fine here"))
    assert store.steps() == []


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    store = written(tmp_path, 1)
    write(store, 1, fill_with("new"))
    assert (store.path(1) / "inner" / "data").read_text() == "new"
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def test_everything_is_forced_to_the_disk_before_it_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rename = os.rename
    monkeypatch.setattr(storing, "_sync", lambda path: done.append(path.name))
    monkeypatch.setattr(os, "rename", lambda a, b: done.append("rename") or rename(a, b))
    written(tmp_path, 1)
    staged = [".staging-checkpoint-1", "inner", "data", STATE, "manifest.json"]
    assert sorted(done[: done.index("rename")]) == sorted(staged)
    assert done[done.index("rename") + 1 :] == [tmp_path.name]


@pytest.mark.parametrize("moment", ["before replacing", "before committing", "after committing"])
def test_a_kill_while_replacing_never_loses_both(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 1)
    calls = iter(["before replacing", "before committing"])
    rename = os.rename

    def killed(*args: Any) -> None:
        if next(calls, None) == moment:
            raise KeyboardInterrupt
        rename(*args)

    monkeypatch.setattr(os, "rename", killed)
    if moment == "after committing":
        monkeypatch.setattr(
            shutil, "rmtree", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt)
        )
    store = new_store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(store, 1, fill_with("new"))
    monkeypatch.undo()
    store.begin(0)
    assert store.steps() == [1]
    assert (store.path(1) / "inner" / "data").read_text() in ("1", "new")


@pytest.mark.parametrize("moment", ["begin", "write"])
def test_leftovers_are_cleared(moment: str, tmp_path: Path) -> None:
    for name in (".staging-checkpoint-7", ".staging-removed-checkpoint-3"):
        foreign(tmp_path, name)
    store = new_store(tmp_path)
    store.begin(0) if moment == "begin" else write(store, 1, fill_with("x"))
    assert [name for name in os.listdir(tmp_path) if name.startswith(".staging-")] == []


STRANGERS = (
    "checkpoint-best",
    "checkpoint-",
    "checkpoint-1a",
    "my-checkpoint-1",
    "checkpoint-3-old",
    "notes",
    ".cache",
)


def test_strangers_are_never_touched(tmp_path: Path) -> None:
    strangers = [foreign(tmp_path, name) for name in STRANGERS]
    (tmp_path / "checkpoint-9").write_text("a file")
    (tmp_path / "checkpoint-8").mkdir()  # no checkpoint: it has no state
    store = written(tmp_path, 1, 2, 3, 4)
    store.prune(1, None)
    store.keep_only(str(store.path(4)))
    assert all((path / STATE).read_text() == "mine" for path in strangers)
    assert (tmp_path / "checkpoint-9").is_file()
    assert (tmp_path / "checkpoint-8").is_dir()
    assert store.steps() == [4]


def test_checkpoints_of_another_run_are_left_alone(tmp_path: Path) -> None:
    old = [foreign(tmp_path, f"checkpoint-{step}") for step in (10, 20)]
    store = written(tmp_path, 1, 2, 3)
    store.prune(1, None)
    store.keep_only(str(store.path(3)))
    assert store.steps() == [3, 10, 20]
    assert all((path / STATE).read_text() == "mine" for path in old)


def test_a_resumed_run_owns_what_came_before_its_checkpoint(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 3, 9)
    store = new_store(tmp_path)
    store.begin(3)
    write(store, 4, fill_with("4"))
    store.prune(2, None)
    assert store.steps() == [3, 4, 9]


def test_a_folder_with_leading_zeros_is_a_stranger(tmp_path: Path) -> None:
    path = foreign(tmp_path, "checkpoint-007")
    assert get_last_checkpoint(str(tmp_path)) is None
    store = new_store(tmp_path)
    store.begin(10)
    write(store, 11, fill_with("11"))
    store.prune(1, None)
    assert path.is_dir()


@quick
@given(st.sets(st.integers(1, 30), min_size=1), st.none() | st.integers(-1, 6), st.data())
def test_pruning_keeps_the_newest_and_the_protected(
    steps: set[int], keep: int | None, data: st.DataObject
) -> None:
    protected = data.draw(st.none() | st.sampled_from(sorted(steps)))
    store = new_store(Path("/nowhere"))
    removed: list[int] = []
    store._own = set(steps)
    store.steps = lambda: sorted(steps)  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storing, "remove", lambda folder: removed.append(int(folder.name.split("-")[1])))
        store.prune(keep, None if protected is None else str(store.path(protected)))
    kept = steps - set(removed)
    assert max(steps) in kept
    assert protected is None or protected in kept
    if keep is None or keep <= 0:
        assert kept == steps
        return
    assert len(kept) == min(len(steps), max(keep, len({max(steps), protected} - {None})))
    others = sorted(steps - {protected})
    assert sorted(kept - {protected}) == others[len(others) - len(kept - {protected}) :]


def test_the_protected_checkpoint_is_known_by_any_path(tmp_path: Path) -> None:
    store = written(tmp_path, 1, 2, 3)
    (tmp_path / "link").symlink_to(tmp_path / "checkpoint-1")
    store.prune(2, str(tmp_path / "link"))
    assert store.steps() == [1, 3]


def test_other_processes_remove_nothing(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 3)
    other = new_store(tmp_path, Strategy(World(rank=1, local_rank=1, size=2), torch.device("cpu")))
    foreign(tmp_path, ".staging-checkpoint-4")
    other.begin(3)
    other.prune(1, None)
    other.keep_only("anything")
    assert other.steps() == [1, 2, 3]
    assert (tmp_path / ".staging-checkpoint-4").is_dir()


def test_the_last_checkpoint_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    assert get_last_checkpoint(str(tmp_path / "missing")) is None
    assert get_last_checkpoint(str(tmp_path)) is None
    written(tmp_path, 100, 9, 20)
    os.utime(tmp_path / "checkpoint-9")
    assert checkpoint_steps(tmp_path) == [9, 20, 100]
    assert get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-100")
