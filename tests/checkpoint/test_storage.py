"""Is a checkpoint on another storage either whole or not there, and is what fails tried again?"""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import etude
from etude import get_last_checkpoint
from etude.checkpoint import storage as storing
from etude.checkpoint.storage import Storage, is_url, local_folder
from etude.errors import CheckpointError, ConfigurationError, MissingPackageError

CHANGES = ("put_file", "rm_file", "pipe_file", "rm")


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that is not there yet; nothing is waited for."""
    monkeypatch.setattr(storing, "DELAYS", (0.0, 0.0))
    return f"memory://{uuid.uuid4().hex}/run" if request.param == "memory" else f"file://{tmp_path}/run"


def folder_with(path: Path, **content: str) -> Path:
    """A folder with a file in a folder, a manifest, and others."""
    for name, text in {"inner/data": "1", "manifest.json": "{}", **content}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def intercept(monkeypatch: pytest.MonkeyPatch, before: Callable[[str, str], Any]) -> None:
    """Calls ``before(operation, path)`` before each change of either storage."""
    for kind in (LocalFileSystem, MemoryFileSystem):
        for operation in CHANGES:
            original = getattr(kind, operation)

            def changed(
                self: Any, *args: Any, original: Any = original, operation: str = operation, **options: Any
            ) -> Any:
                before(operation, str(args[1] if operation == "put_file" else args[0]))
                return original(self, *args, **options)

            monkeypatch.setattr(kind, operation, changed)


def test_what_is_a_url() -> None:
    assert all(is_url(url) for url in ("s3://bucket/run", "file:///data/run", "gs://b", "abfs://c@a/run"))
    assert not any(
        is_url(folder) for folder in ("out", "/s3/x", "C:\\run", "c://run", "", None, Path("s3://b"))
    )


def test_the_local_folder_tells_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_LOCAL_DIR", str(tmp_path))
    assert local_folder("s3://bucket/a run/") == str(tmp_path / "s3" / "bucket" / "a run")
    assert local_folder("file:///data/run") == str(tmp_path / "file" / "data" / "run")
    assert local_folder("s3://b/run/final") == str(Path(local_folder("s3://b/run")) / "final")
    assert local_folder("some/run") == "some/run"
    monkeypatch.delenv("ETUDE_LOCAL_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert local_folder("gs://b/run") == "/cache/etude/runs/gs/b/run"


def test_an_upload_comes_back_as_it_was(url: str, tmp_path: Path) -> None:
    storage = Storage(url)
    assert (storage.steps(), storage.names()) == ([], {})
    storage.upload(folder_with(tmp_path / "a", weights="12345"), 10)
    storage.upload(folder_with(tmp_path / "b"), 9)
    assert storage.steps() == [9, 10]
    assert storage.names("checkpoint-10") == {"inner/data": 1, "manifest.json": 2, "weights": 5}
    assert storage.read("checkpoint-10/weights") == b"12345"
    storage.get("checkpoint-10/weights", tmp_path / "new" / "weights")
    assert (tmp_path / "new" / "weights").read_text() == "12345"
    assert get_last_checkpoint(url) == f"{url}/checkpoint-10"


def test_a_checkpoint_replaces_another_of_its_step(url: str, tmp_path: Path) -> None:
    storage = Storage(url)
    storage.upload(folder_with(tmp_path / "a", old="1", weights="old"), 10)
    storage.upload(folder_with(tmp_path / "b", weights="newer"), 10)
    assert storage.names("checkpoint-10") == {"inner/data": 1, "manifest.json": 2, "weights": 5}


def test_what_is_removed_is_gone(url: str, tmp_path: Path) -> None:
    storage = Storage(url)
    storage.upload(folder_with(tmp_path / "a"), 10)
    storage.upload(folder_with(tmp_path / "a"), 100)
    storage.remove(10)
    assert storage.steps() == [100]
    assert not any(name.startswith("checkpoint-10/") for name in storage.names())
    assert not (tmp_path / "run" / "checkpoint-10").exists()
    storage.remove(10)


def test_what_was_left_half_done_is_removed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill at any change of an upload and of a removal; what somebody else has put there stays."""

    class Killed(BaseException):
        pass

    storage = Storage(url)
    foreign = {"checkpoint-5/model": 5, "other/etude_state.json": 5}
    for name in foreign:
        storage.put(folder_with(tmp_path / "foreign", model="other") / "model", name)
    folder = folder_with(tmp_path / "a", **{"etude_state.json": "{}", "training_args.json": "{}"})
    whole = {f"checkpoint-10/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.*")}
    found = set()
    for last in range(20):
        left = [last]

        def kill(operation: str, path: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        with monkeypatch.context() as patch:
            intercept(patch, kill)
            with suppress(Killed):
                storage.upload(folder, 10)
                storage.remove(10)
        complete = 10 in storage.steps()
        storage.remove_leftovers()
        names = storage.names()
        assert foreign.items() <= names.items()
        assert (whole <= names.keys()) == complete
        assert complete or names == foreign
        found.add(complete)
        storage.remove(10)
    assert found == {True, False}


@pytest.mark.parametrize("replaced", [False, True])
def test_a_checkpoint_is_never_there_in_part(
    url: str, replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen before every change: what has a manifest has every other file of the same checkpoint."""
    storage = Storage(url)
    if replaced:
        storage.upload(folder_with(tmp_path / "old", weights="old", more="old"), 10)
    versions = [{"weights": 3, "more": 3}, {"weights": 5}]
    seen = []

    def look(operation: str, path: str) -> None:
        names = storage.names("checkpoint-10")
        seen.append(operation)
        if names.pop("manifest.json", None):
            assert names.pop("inner/data") == 1
            assert names in versions

    with monkeypatch.context() as patch:
        intercept(patch, look)
        storage.upload(folder_with(tmp_path / "new", weights="newer"), 10)
        assert storage.steps() == [10]
        storage.remove(10)
    assert seen.count("put_file") == 3
    assert "rm_file" in seen


def test_what_fails_is_tried_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = {"put_file": 2, "rm_file": 1}

    def fail(operation: str, path: str) -> None:
        if failures.get(operation, 0):
            failures[operation] -= 1
            raise ConnectionError("out of order")

    storage = Storage(url)
    with monkeypatch.context() as patch:
        intercept(patch, fail)
        storage.upload(folder_with(tmp_path / "a"), 10)
        storage.remove(10)
    assert storage.steps() == []
    assert caplog.text.count("cannot be written to (out of order); trying again") == 3


def test_what_goes_on_failing_is_an_error(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(operation: str, path: str) -> None:
        if path.endswith("data"):
            raise ConnectionError("out of order")

    storage = Storage(url)
    with monkeypatch.context() as patch:
        intercept(patch, fail)
        with pytest.raises(CheckpointError, match=r"/run cannot be written to: out of order\."):
            storage.upload(folder_with(tmp_path / "a"), 10)
    assert storage.steps() == []


def test_what_is_forbidden_is_not_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def forbid(operation: str, path: str) -> None:
        tries.append(operation)
        raise PermissionError("Access Denied")

    storage = Storage(url)
    with monkeypatch.context() as patch:
        intercept(patch, forbid)
        with pytest.raises(CheckpointError, match="cannot be written to: Access Denied"):
            storage.probe()
    assert tries == ["pipe_file"]
    storage.probe()
    assert storage.names() == {}


def test_a_file_that_arrives_cut_off_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: Any, path: str, target: str) -> None:
        self.pipe_file(target, b"")

    monkeypatch.setattr(MemoryFileSystem, "put_file", cut)
    storage = Storage(f"memory://{uuid.uuid4().hex}")
    with pytest.raises(CheckpointError, match="inner/data has not arrived as it was sent"):
        storage.upload(folder_with(tmp_path / "a"), 10)
    assert storage.steps() == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nothing://x", "nothing://x cannot be an output folder: Protocol not known"),
        ("simplecache::s3://x", "must not contain"),
        ("s3://bucket/../x", "must not contain"),
    ],
)
def test_an_impossible_url_is_refused(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Storage(url)


def test_a_url_that_was_made_a_path_is_refused() -> None:
    """It has lost a slash, and would name a folder of this machine."""
    with pytest.raises(ConfigurationError, match="a path cannot hold a URL .'s3:/bucket/run'"):
        etude.TrainingArguments(Path("s3://bucket/run"))
    assert etude.TrainingArguments(Path("some/run")).output_dir == "some/run"
    assert etude.TrainingArguments("s3://bucket/run").output_dir == "s3://bucket/run"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(
        MissingPackageError, match="The folder s3://b/run needs the package 's3fs': pip install s3fs"
    ):
        Storage("s3://b/run")


def test_storages_draw_from_a_generator_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they draw, and whenever, a run's data is the same."""
    library = ModuleType("botocore.of_a_test")
    library.random = random  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, library.__name__, library)
    Storage("memory://x")
    before = random.getstate()
    assert 0 <= library.random.random() < 1
    assert library.random.Random(3).random() == random.Random(3).random()
    assert random.getstate() == before


def test_nothing_is_imported_without_a_url() -> None:
    code = """
import sys, etude
from etude.checkpoint.storage import local_folder
etude.get_last_checkpoint(local_folder("run"))
print({"fsspec", "s3fs", "botocore"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
