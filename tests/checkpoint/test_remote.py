"""A run whose folder is on another storage: is it the same run, is the copy whole, and can another machine go on?"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

import etude
from etude.checkpoint import remote
from etude.checkpoint import storage as storing
from etude.checkpoint.download import fetch_for_resume
from etude.checkpoint.manifest import Manifest, describe_all
from etude.checkpoint.remote import Mirror
from etude.checkpoint.storage import Storage, local_folder
from etude.core.world import World
from etude.errors import CheckpointError, ConfigurationError
from etude.strategies.base import Strategy
from tests import helpers
from tests.contracts.resuming import BASE, Result, assert_same_run, build, finish, make_breaker, read_log_file

ONE = Strategy(World(), torch.device("cpu"))
SCENARIO = BASE.having(save_total_limit=2, num_train_epochs=2)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that is not there yet; nothing is waited for."""
    monkeypatch.setattr(storing, "DELAYS", (0.0, 0.0))
    move_on(tmp_path / "here", monkeypatch)
    return f"memory://{uuid.uuid4().hex}/run"


def move_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this is a machine with nothing on its disk."""
    monkeypatch.setenv("ETUDE_LOCAL_DIR", str(folder))


def checkpoint(step: int, folder: Path, best: int | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_text(f"weights of {step}")
    state = etude.TrainerState(global_step=step, best_global_step=best)
    state.save_to_json(str(path / "trainer_state.json"))
    Manifest(step, 1, describe_all(path), {}).save(path)
    return path


def uploaded(url: str, *steps: int, tmp_path: Path, best: int | None = None) -> Storage:
    storage = Storage(url)
    for step in steps:
        storage.upload(checkpoint(step, tmp_path / "elsewhere", best), step)
    return storage


# --- sending ------------------------------------------------------------------------------------------------------


@dataclass
class Gate:
    """Holds every upload until it is opened."""

    opened: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        upload = Storage.upload

        def held(storage: Storage, folder: Path, step: int) -> None:
            self.begun.set()
            assert self.opened.wait(20)
            upload(storage, folder, step)

        monkeypatch.setattr(Storage, "upload", held)


def save(mirror: Mirror, step: int, keep: int | None = None, best: int | None = None) -> None:
    checkpoint(step, mirror.local)
    mirror.ready(step, keep, best)
    mirror.advance()


def test_a_folder_without_a_url_has_no_copy(tmp_path: Path) -> None:
    mirror = Mirror(str(tmp_path), ONE)
    mirror.begin(0)
    save(mirror, 3)
    mirror.send_files()
    mirror.keep_only(str(tmp_path / "checkpoint-9"))
    mirror.finish()
    assert mirror.failure() is None
    assert mirror.told() == str(mirror.local) == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_a_checkpoint_arrives_though_it_is_removed_meanwhile(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    gate.hold(monkeypatch)
    mirror = Mirror(url, ONE)
    mirror.begin(0)
    save(mirror, 3)
    (mirror.local / "checkpoint-3" / "weights").unlink()
    gate.opened.set()
    mirror.finish()
    assert Storage(url).read("checkpoint-3/weights") == b"weights of 3"
    assert [path.name for path in mirror.local.iterdir()] == ["checkpoint-3"]


def test_of_those_that_wait_the_newest_and_the_best_are_sent(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the training never waits for an upload."""
    gate = Gate()
    gate.hold(monkeypatch)
    mirror = Mirror(url, ONE)
    mirror.begin(0)
    save(mirror, 1)
    assert gate.begun.wait(20)
    for step, best in [(2, None), (3, 3), (4, 3), (5, 3)]:
        save(mirror, step, best=best)
    gate.opened.set()
    mirror.finish()
    assert Storage(url).steps() == [1, 3, 5]
    assert caplog.text.count("that of step 2 is left out") == 1
    assert "step 4" not in caplog.text  # said once
    assert not list(mirror.local.glob(".upload*"))


def test_old_ones_are_removed_by_step(url: str, tmp_path: Path) -> None:
    """Of the run itself: what another has left in the same place stays."""
    uploaded(url, 2, 90, tmp_path=tmp_path)
    mirror = Mirror(url, ONE)
    mirror.begin(0)
    for step in (8, 9, 10, 11):
        save(mirror, step, keep=2, best=8)
        mirror.finish()
    assert Storage(url).steps() == [2, 8, 11, 90]
    mirror.keep_only(str(mirror.local / "checkpoint-8"))
    assert Storage(url).steps() == [2, 8, 90]


def test_a_resumed_run_removes_those_before_it(url: str, tmp_path: Path) -> None:
    """Also those that this machine has never had."""
    uploaded(url, 8, 9, 10, 11, tmp_path=tmp_path)
    mirror = Mirror(url, ONE)
    mirror.begin(10)
    save(mirror, 12, keep=3)
    mirror.finish()
    assert Storage(url).steps() == [9, 10, 11, 12]


def test_other_files_follow_when_they_change(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    put = Storage.put
    monkeypatch.setattr(
        Storage, "put", lambda self, path, name: (sent.append(name), put(self, path, name))[1]
    )
    mirror = Mirror(url, ONE)
    for name in ("log.jsonl", "runs/events", ".hidden", ".staging-checkpoint-3/x", "checkpoint-3/x"):
        (mirror.local / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror.local / name).write_text("1")
    mirror.send_files()
    mirror.send_files()
    assert sent == ["log.jsonl", "runs/events"]
    (mirror.local / "log.jsonl").write_text("12")
    mirror.send_files()
    assert sent[2:] == ["log.jsonl"]
    assert Storage(url).names() == {"log.jsonl": 2, "runs/events": 1}


def test_a_folder_below_the_local_one_goes_below_the_url(url: str, tmp_path: Path) -> None:
    """As trials of a search have it; any other folder has no copy."""
    mirror = Mirror(url, ONE)
    for folder in (f"{url}/run-1", f"{local_folder(url)}/run-1"):
        assert mirror.open(folder) == f"{local_folder(url)}/run-1"
        assert mirror.told().startswith(f"{url}/run-1, by way of")
    assert mirror.open(str(tmp_path / "other")) == mirror.told() == str(tmp_path / "other")


def test_leftovers_are_removed_at_the_next_start(url: str) -> None:
    mirror = Mirror(url, ONE)
    for name in (".upload-checkpoint-3-x", ".download-checkpoint-3"):
        (mirror.local / name).mkdir(parents=True)
    mirror.begin(0)
    assert not list(mirror.local.iterdir())


class Several(Strategy):
    """The main process of two machines with two processes each."""

    def gather_objects(self, value: Any) -> list[Any]:
        return [True, False, True, False] if isinstance(value, bool) else [value] * 4


def test_each_machine_must_write_whole_checkpoints(url: str) -> None:
    several = Several(World(0, 0, 4), torch.device("cpu"))
    with pytest.raises(ConfigurationError, match="with 2 machines needs `save_on_each_node=True`"):
        Mirror(url, several).begin(0)
    Mirror(url, several, on_each_node=True).begin(0)


# --- fetching -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [None, False, "some/checkpoint-3"])
def test_what_is_no_url_is_left_as_it_is(wanted: Any, url: str) -> None:
    assert fetch_for_resume(wanted, url, ONE) is wanted
    assert fetch_for_resume(True, "some/folder", ONE) is True


def test_the_newest_is_brought_here(url: str, tmp_path: Path) -> None:
    uploaded(url, 9, 10, tmp_path=tmp_path)
    path = fetch_for_resume(True, url, ONE)
    assert path == fetch_for_resume("auto", url, ONE) == f"{local_folder(url)}/checkpoint-10"
    assert (Path(path) / "weights").read_text() == "weights of 10"
    path = fetch_for_resume(f"{url}/checkpoint-9", "elsewhere", ONE)
    assert (Path(path) / "weights").read_text() == "weights of 9"
    assert sorted(p.name for p in Path(path).parent.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_none_there(url: str) -> None:
    assert fetch_for_resume("auto", url, ONE) is None
    with pytest.raises(CheckpointError, match="No valid checkpoint found in output directory"):
        fetch_for_resume(True, url, ONE)
    with pytest.raises(CheckpointError, match="Can't find a valid checkpoint at .*checkpoint-3"):
        fetch_for_resume(f"{url}/checkpoint-3", url, ONE)


def test_the_best_comes_along(url: str, tmp_path: Path) -> None:
    uploaded(url, 4, 5, 6, tmp_path=tmp_path, best=4)
    fetch_for_resume(True, url, ONE)
    assert sorted(path.name for path in Path(local_folder(url)).iterdir()) == ["checkpoint-4", "checkpoint-6"]


def gets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects which files are downloaded."""
    names: list[str] = []
    get = Storage.get
    monkeypatch.setattr(
        Storage, "get", lambda self, name, path: (names.append(name), get(self, name, path))[1]
    )
    return names


@pytest.mark.parametrize("place", ["checkpoint-9", ".download-checkpoint-9"])
def test_files_that_are_here_are_not_downloaded(
    place: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of an earlier copy, or of a download that was killed; but only with the right content."""
    uploaded(url, 9, tmp_path=tmp_path)
    path = Path(fetch_for_resume(True, url, ONE))
    names = gets(monkeypatch)
    fetch_for_resume(True, url, ONE)
    assert names == []
    here = path.rename(path.with_name(place))
    (here / "weights").write_text("weights of X")
    (here / "stranger").write_text("?")
    assert fetch_for_resume(True, url, ONE) == str(path)
    assert names == ["checkpoint-9/weights"]
    assert (path / "weights").read_text() == "weights of 9"
    assert not (path / "stranger").exists()


@pytest.mark.parametrize("how", ["changed", "cut off", "gone", "manifest"])
def test_a_broken_one_is_passed_over_and_said(
    how: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uploaded(url, 9, 10, tmp_path=tmp_path)
    files = fsspec.filesystem("memory")
    name = "manifest.json" if how == "manifest" else "weights"
    damaged = f"{url}/checkpoint-10/{name}"
    content = files.cat_file(damaged)
    files.rm_file(damaged)
    if how != "gone":
        files.pipe_file(damaged, content[:-1] + (b"" if how == "cut off" else b"?"))
    assert Path(fetch_for_resume(True, url, ONE)).name == "checkpoint-9"
    assert f"{url}/checkpoint-10 is broken: " in caplog.text
    assert name in caplog.text
    with pytest.raises(CheckpointError, match=f"/checkpoint-10 is broken: .*{name}"):
        fetch_for_resume(f"{url}/checkpoint-10", url, ONE)
    files.rm_file(f"{url}/checkpoint-9/weights")
    move_on(tmp_path / "there", monkeypatch)
    with pytest.raises(CheckpointError, match="all that are there are broken"):
        fetch_for_resume("auto", url, ONE)


def test_one_without_a_manifest_counts_only_when_it_is_named(url: str, tmp_path: Path) -> None:
    """It is one of the reference, or an upload that was killed: then the local checks say so."""
    uploaded(url, 9, tmp_path=tmp_path)
    files = fsspec.filesystem("memory")
    files.rm_file(f"{url}/checkpoint-9/manifest.json")
    assert fetch_for_resume("auto", url, ONE) is None
    path = Path(fetch_for_resume(f"{url}/checkpoint-9/", url, ONE))
    assert sorted(p.name for p in path.iterdir()) == ["trainer_state.json", "weights"]


def test_what_was_never_uploaded_is_said(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uploaded(url, 9, tmp_path=tmp_path)
    lost = checkpoint(12, Path(local_folder(url)))
    assert Path(fetch_for_resume(True, url, ONE)).name == "checkpoint-9"
    assert f"{lost} is newer than what {url} has" in caplog.text


# --- a run --------------------------------------------------------------------------------------------------------


def run(url: str, resume: Any = None, extra: Any = (), **options: Any) -> tuple[Any, Result]:
    with helpers.library("etude") as lib:
        trainer = build(SCENARIO.having(**options), url, lib, extra)
        output = trainer.train(resume_from_checkpoint=resume)
    rows = helpers.without_timing(trainer.state.log_history)
    weights = helpers.weights_of(trainer.model)
    return trainer, Result(weights, rows, read_log_file(Path(local_folder(url))), output)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The same run in a plain folder."""
    return finish(SCENARIO, tmp_path_factory.mktemp("whole"))


def test_the_run_is_the_same_and_its_copy_whole(url: str, whole: Result) -> None:
    trainer, result = run(url)
    assert_same_run(result, whole)
    assert trainer.args.output_dir == url
    storage = Storage(url)
    assert storage.steps() == [9, 10]
    for step in storage.steps():
        local = Path(local_folder(url)) / f"checkpoint-{step}"
        names = {path.name: path.stat().st_size for path in local.iterdir()}
        assert storage.names(f"checkpoint-{step}") == names
    assert storage.read("log.jsonl") == (Path(local_folder(url)) / "log.jsonl").read_bytes()
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("train", {"loss": 1.0})
    expected = {"model.safetensors", "training_args.json", "trainer_state.json", "train_results.json"}
    assert expected <= set(storage.names())
    trainer.save_model(f"{url}/final")
    trainer.save_model(f"{url}-2")
    assert "final/model.safetensors" in storage.names()
    assert "model.safetensors" in Storage(f"{url}-2").names()
    arguments = json.loads(storage.read("training_args.json"))
    assert arguments["output_dir"] == url


@pytest.mark.parametrize("resume", [True, "auto", "{url}/checkpoint-6"])
def test_another_machine_goes_on_where_it_stopped(
    resume: Any, url: str, whole: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = make_breaker(etude, "on_step_end", 8)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="on_step_end of step 8"):
        run(url, extra=[breaker])
    assert Storage(url).steps() == [3, 6]
    move_on(tmp_path / "there", monkeypatch)
    wanted = resume.format(url=url) if isinstance(resume, str) else resume
    _, result = run(url, wanted)
    assert_same_run(result, whole)
    assert Storage(url).steps() == [9, 10]


def test_the_best_is_loaded_on_another_machine(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"load_best_model_at_end": True, "save_steps": 4, "save_total_limit": 1}
    options |= {"metric_for_best_model": "loss", "greater_is_better": True}  # the first is the best
    trainer, expected = run(url, **options)
    best = trainer.state.best_global_step
    assert best == 4
    assert Storage(url).steps() == [4]
    again = f"{url}-again"
    with pytest.raises(Exception, match="on_step_end of step 9"):
        run(again, extra=[make_breaker(etude, "on_step_end", 9)], **options)  # type: ignore[arg-type]
    assert Storage(again).steps() == [4, 8]
    (tmp_path / "here").rename(tmp_path / "lost")
    move_on(tmp_path / "there", monkeypatch)
    trainer, result = run(again, True, **options)
    assert trainer.state.best_model_checkpoint == f"{local_folder(again)}/checkpoint-4"
    helpers.assert_identical(result.weights, expected.weights)
    assert Storage(again).steps() == [4]


def test_files_that_a_callback_adds_are_uploaded(url: str) -> None:
    class Adder(etude.TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(local_folder(args.output_dir)) / f"checkpoint-{state.global_step}"
            (folder / "more.txt").write_text("mine")

    run(url, extra=[Adder()])
    assert Storage(url).read("checkpoint-10/more.txt") == b"mine"
    assert (Path(fetch_for_resume(True, url, ONE)) / "more.txt").read_text() == "mine"


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> None:
    put = Storage.put

    def broken(self: Storage, path: Path, name: str) -> None:
        if fails(name):
            raise CheckpointError(f"{self.url} cannot be written to: out of order.")
        put(self, path, name)

    monkeypatch.setattr(Storage, "put", broken)


def test_an_upload_that_fails_ends_the_run(
    url: str, whole: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, lambda name: name.startswith("checkpoint-6"))
        with pytest.raises(
            CheckpointError, match=r"run cannot be written to: out of order\. What was to be uplo"
        ):
            run(url)
    assert 6 not in Storage(url).steps()
    move_on(tmp_path / "there", monkeypatch)
    assert_same_run(run(url, True)[1], whole)


def test_or_it_goes_on_without_it(
    url: str, whole: Result, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger=remote.__name__)
    failing(monkeypatch, lambda name: name.startswith("checkpoint-6"))
    assert_same_run(run(url, on_save_error="continue")[1], whole)
    assert Storage(url).steps() == [9, 10]
    assert caplog.text.count("The training goes on without it.") == 1


def test_a_storage_that_cannot_be_written_is_told_before_the_first_step(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*args: Any, **options: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", forbid)
    steps: list[int] = []
    breaker = make_breaker(etude, "on_step_begin", 0)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="/run cannot be written to: Access Denied"):
        run(url, extra=[breaker])
    assert steps == []
