"""A run whose folder is in an S3 bucket, on a real server: saved, pruned, resumed, killed, refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etude import TrainerCallback, get_last_checkpoint
from etude.checkpoint import storage as storing
from etude.checkpoint.download import download
from etude.checkpoint.files import step_of
from etude.checkpoint.storage import Storage
from etude.errors import CheckpointError
from tests.contracts import s3_server
from tests.contracts.resuming import BASE, Result, assert_same_run, break_off, finish
from tests.contracts.s3_server import Server
from tests.distributed.launch import REPOSITORY, child_environment

pytestmark = pytest.mark.slow


class Patient(TrainerCallback):
    """Waits before each step until what was saved is uploaded, as if steps took longer."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for thread in threading.enumerate():
            if thread.name.startswith(("checkpoint-", "upload")):
                thread.join()


# checkpoints of the steps 3, 6, 9, 12 and 15
SCENARIO = replace(BASE, callbacks=lambda lib: [Patient()]).having(save_total_limit=2)
FILES = {
    "etude_state.json",
    "manifest.json",
    "model.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.bin",
    "training_args.json",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server.running() as server:
        yield server


@pytest.fixture
def url(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A new bucket, reached as botocore's own variables say; pauses are short."""
    s3fs = pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "ETUDE_LOCAL_DIR": str(tmp_path / "here"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(storing, "DELAYS", (0.1,) * 3)
    server.fault(0)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{abs(hash(request.node.name))}"
    s3fs.S3FileSystem().mkdir(bucket)
    yield f"s3://{bucket}/some/run"
    server.fault(0)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The same run in a plain folder, never stopped."""
    return finish(SCENARIO, tmp_path_factory.mktemp("whole"))


def assert_whole(url: str, steps: list[int], scratch: Path) -> None:
    """These checkpoints are there, each as its manifest says, and no part of another."""
    storage = Storage(url)
    assert storage.steps() == steps
    folders = {name.partition("/")[0] for name in storage.names()}
    assert {step for step in map(step_of, folders) if step is not None} == set(steps)
    for step in steps:
        assert set(storage.names(f"checkpoint-{step}")) == FILES
        download(storage, f"checkpoint-{step}", scratch)


def test_saved_and_pruned(url: str, whole: Result, tmp_path: Path) -> None:
    assert_same_run(finish(SCENARIO, url), whole)
    assert_whole(url, [12, 15], tmp_path / "scratch")
    log = Storage(url).read("log.jsonl")
    assert log == (tmp_path / "here" / url.replace("://", "/") / "log.jsonl").read_bytes()


@pytest.mark.parametrize("resume", [True, "auto", "{url}/checkpoint-3"])
def test_resumed_on_another_machine(
    resume: bool | str, url: str, whole: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(SCENARIO, url, "on_step_end", 8)
    assert get_last_checkpoint(url) == f"{url}/checkpoint-6"
    monkeypatch.setenv("ETUDE_LOCAL_DIR", str(tmp_path / "there"))
    wanted = resume.format(url=url) if isinstance(resume, str) else resume
    assert_same_run(finish(SCENARIO, url, wanted), whole)
    assert_whole(url, [12, 15], tmp_path / "scratch")


KILLED_AT = {  # request, and the checkpoints that are there then
    "first file": ("PUT", "checkpoint-6/etude_state.json", [3]),
    "middle": ("PUT", "checkpoint-6/optimizer.pt", [3]),
    "manifest": ("PUT", "checkpoint-6/manifest.json", [3]),
    "log": ("PUT", "run/log.jsonl", [3]),
    "pruning": ("DELETE", "checkpoint-3/manifest.json", [3, 6, 9]),
    "pruning files": ("DELETE", "checkpoint-3/optimizer.pt", [6, 9]),
    "pruning the last file": ("DELETE", "checkpoint-3/training_args.json", [6, 9]),
}


@pytest.mark.parametrize("place", ["here", "there"])
@pytest.mark.parametrize("instant", list(KILLED_AT))
def test_killed_in_the_middle_of_an_upload(
    instant: str,
    place: str,
    url: str,
    server: Server,
    whole: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL while the server has a request and has not answered it; then the same command once more."""
    method, path, left = KILLED_AT[instant]
    server.fault(1, path, method, status=0)
    kill_when_met(url, server)
    assert Storage(url).steps() == left
    server.fault(0)
    monkeypatch.setenv("ETUDE_LOCAL_DIR", str(tmp_path / place))
    assert_same_run(finish(SCENARIO, url, "auto"), whole)
    assert_whole(url, [12, 15], tmp_path / "scratch")


def kill_when_met(url: str, server: Server) -> None:
    """Start the run in a process of its own, and kill it when the fault is met."""
    code = (
        f"import torch; torch.set_num_threads(1)\n"
        f"from tests.contracts.test_s3 import SCENARIO, finish\n"
        f"finish(SCENARIO, {url!r}, 'auto')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=child_environment(), stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process.stderr:
        deadline = time.monotonic() + 60
        while not server.met() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        met = server.met()
        process.kill()
        told = process.stderr.read().decode()
    assert met == 1, told
    assert process.wait() == -signal.SIGKILL


def test_a_server_that_fails_for_a_while(url: str, server: Server, whole: Result, tmp_path: Path) -> None:
    server.fault(7, "checkpoint-6", "PUT", status=500, code="InternalError")
    assert_same_run(finish(SCENARIO, url), whole)
    assert server.met() == 7
    assert_whole(url, [12, 15], tmp_path / "scratch")


def test_a_server_that_fails_on_and_on(
    url: str, server: Server, whole: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "DELAYS", ())
    server.fault(10**6, "checkpoint-6", "PUT", status=500, code="InternalError")
    with pytest.raises(
        CheckpointError, match=r"some/run cannot be written to: .*What was to be uploaded is in"
    ):
        finish(SCENARIO, url)
    server.fault(0)
    assert_same_run(finish(SCENARIO, url, "auto"), whole)


def test_a_bucket_that_is_only_for_reading(url: str, server: Server, whole: Result) -> None:
    """Refused before the first step, but good to go on from."""
    break_off(SCENARIO, url, "on_step_end", 8)
    server.fault(10**6, "", "PUT POST DELETE", status=403, code="AccessDenied")
    for resume in (None, True):
        with pytest.raises(CheckpointError, match=r"some/run cannot be written to: "):
            finish(SCENARIO.having(max_steps=1), url, resume)


def test_a_read_only_bucket_can_be_gone_on_from(
    url: str, server: Server, whole: Result, tmp_path: Path
) -> None:
    break_off(SCENARIO, url, "on_step_end", 8)
    server.fault(10**6, "", "PUT POST DELETE", status=403, code="AccessDenied")
    resumed = finish(SCENARIO, tmp_path / "out", f"{url}/checkpoint-6")
    assert_same_run(resumed, whole)


def test_a_bucket_that_is_not_there(url: str) -> None:
    with pytest.raises(CheckpointError, match="s3://no-such-bucket/run cannot be written to: "):
        finish(SCENARIO, "s3://no-such-bucket/run")
