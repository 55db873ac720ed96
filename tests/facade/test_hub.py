"""Pushing to a hub: what arrives there, when, and what is said where it does not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import etude
from etude.errors import ConfigurationError, HubError
from tests import helpers
from tests.hub.conftest import hub
from tests.hub.server import TOKEN, FakeHub
from tests.parity.runner import BERT, DICT, LIBRARIES, build_trainer

__all__ = ["hub"]
# how huggingface_hub calls its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
PUSHING = {"push_to_hub": True, "hub_token": TOKEN, "save_strategy": "steps", "save_steps": 2, "max_steps": 6}
NAME = "somebody/run"


def pushing(folder: Path, case: Any = DICT, callbacks: Any = (), **arguments: Any) -> Any:
    return build_trainer(
        etude, case.having(**{**PUSHING, **arguments}), folder / "run", callbacks=list(callbacks)
    )


def local(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Waiting:
    """A callback that lets each push arrive before the training goes on, and counts the events."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    def on_push_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begun.append(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.push_in_progress is not None:
            self.trainer.push_in_progress.wait_until_done()


def waiting(folder: Path, **arguments: Any) -> tuple[Any, Waiting]:
    callback = type("Listener", (Waiting, etude.TrainerCallback), {})()
    callback.trainer = pushing(folder, callbacks=[callback], **arguments)
    return callback.trainer, callback


def test_every_save_is_pushed_as_it_is(hub: FakeHub, tmp_path: Path) -> None:
    trainer, callback = waiting(tmp_path)
    (tmp_path / "run" / "notes").mkdir()
    (tmp_path / "run" / "notes" / "a.txt").write_text("kept")
    (tmp_path / "run" / "_private.txt").write_text("not for others")
    trainer.train()
    repository = hub.repositories[NAME]
    assert trainer.hub_model_id == NAME
    assert repository.messages() == [f"Training in progress, step {step}" for step in (2, 4, 6)]
    assert callback.begun == [2, 4, 6]
    for commit, step in zip(repository.commits, (2, 4, 6), strict=True):
        saved = (tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors").read_bytes()
        assert commit.files["model.safetensors"] == saved
    assert set(repository.files()) == {
        "model.safetensors", "training_args.bin", "training_args.json", "log.jsonl", "notes/a.txt",
    }  # fmt: skip
    assert not list((tmp_path / "run").glob(".push-*"))
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", list(etude.HubStrategy), ids=str)
def test_the_hub_gets_what_the_reference_sends(strategy: str, hub: FakeHub, tmp_path: Path) -> None:
    for name in LIBRARIES:
        case = BERT.having(**PUSHING, hub_model_id=name, hub_strategy=strategy)
        with helpers.library(name) as lib:
            callback = type("Listener", (Waiting, lib.TrainerCallback), {})()
            callback.trainer = build_trainer(lib, case, tmp_path / name, callbacks=[callback])
            callback.trainer.train()
            callback.trainer.save_model()
    theirs, ours = (hub.repositories[f"somebody/{name}"] for name in LIBRARIES)
    assert ours.messages() == theirs.messages()
    ours_only = {"training_args.json", "etude_state.json", "manifest.json", "log.jsonl"}
    for one, other in zip(ours.commits, theirs.commits, strict=True):
        assert {name for name in one.files if name.split("/")[-1] not in ours_only} == set(other.files)


def test_the_token_is_in_no_file(hub: FakeHub, tmp_path: Path) -> None:
    trainer, _ = waiting(tmp_path, hub_strategy="all_checkpoints")
    trainer.train()
    trainer.push_to_hub()
    assert not [name for name, data in hub.repositories[NAME].files().items() if TOKEN.encode() in data]
    assert trainer.args.hub_token == TOKEN
    with torch.serialization.safe_globals([]):
        kept = torch.load(tmp_path / "run" / "training_args.bin", weights_only=False)
    assert kept.hub_token is None


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_checkpoints_are_pushed_whole(strategy: str, hub: FakeHub, tmp_path: Path) -> None:
    trainer, _ = waiting(tmp_path, hub_strategy=strategy, save_total_limit=1)
    trainer.train()
    repository = hub.repositories[NAME]
    messages = [
        f"Training in progress, step {step}{what}" for step in (2, 4, 6) for what in ("", ", checkpoint")
    ]
    assert repository.messages() == messages
    folders = {name.split("/")[0] for name in repository.files() if "/" in name}
    expected = {"last-checkpoint"} if strategy == "checkpoint" else {f"checkpoint-{n}" for n in (2, 4, 6)}
    assert folders == expected
    last = "last-checkpoint" if strategy == "checkpoint" else "checkpoint-6"
    pushed = {
        n.removeprefix(f"{last}/"): d for n, d in repository.files().items() if n.startswith(f"{last}/")
    }
    assert pushed == local(tmp_path / "run" / "checkpoint-6")
    # and it can be gone on from
    for name, data in pushed.items():
        (tmp_path / "fetched" / "checkpoint-6").mkdir(parents=True, exist_ok=True)
        (tmp_path / "fetched" / "checkpoint-6" / name).write_bytes(data)
    other = build_trainer(etude, DICT.having(max_steps=8), tmp_path / "other")
    assert other.train(resume_from_checkpoint=str(tmp_path / "fetched" / "checkpoint-6")).global_step == 8


def test_the_end_strategy_pushes_when_the_model_is_saved(hub: FakeHub, tmp_path: Path) -> None:
    trainer = pushing(
        tmp_path, BERT, hub_strategy="end", save_strategy="epoch", num_train_epochs=1, max_steps=-1
    )
    trainer.train()
    assert hub.repositories[NAME].messages() == []
    trainer.save_model()
    assert hub.repositories[NAME].messages() == ["Model save"]
    files = hub.repositories[NAME].files()
    assert {"config.json", "model.safetensors", "README.md"} <= set(files)
    assert files["model.safetensors"] == (tmp_path / "run" / "model.safetensors").read_bytes()
    assert b"# run\n" in files["README.md"]


def test_epochs_are_named_in_the_message(hub: FakeHub, tmp_path: Path) -> None:
    trainer, _ = waiting(tmp_path, save_strategy="epoch", num_train_epochs=2, max_steps=-1)
    trainer.train()
    assert hub.repositories[NAME].messages() == [
        "Training in progress, epoch 1",
        "Training in progress, epoch 2",
    ]


def test_a_branch_and_a_name_of_ones_own(hub: FakeHub, tmp_path: Path) -> None:
    trainer, _ = waiting(tmp_path, hub_revision="dev", hub_model_id="team/model", hub_private_repo=True)
    trainer.train()
    trainer.push_to_hub(revision="main")
    repository = hub.repositories["team/model"]
    assert repository.private
    assert [c.branch for c in repository.commits] == ["dev"] * 3 + ["main"]
    assert b"# model\n" in repository.files()["README.md"]


def test_an_existing_repository_is_used(hub: FakeHub, tmp_path: Path) -> None:
    pushing(tmp_path)
    trainer = pushing(tmp_path, hub_model_id=NAME)
    assert trainer.hub_model_id == NAME
    assert len(hub.repositories) == 1


def test_pushing_by_hand(hub: FakeHub, tmp_path: Path) -> None:
    trainer = build_trainer(etude, DICT, tmp_path / "run")
    assert trainer.hub_model_id is None
    trainer.model.model_tags = ["its-own"]
    done = trainer.push_to_hub("By hand", token=TOKEN, private=True, license="mit", tags="mine")
    assert done.commit_message == "By hand"
    assert hub.repositories[NAME].private
    card = hub.repositories[NAME].files()["README.md"].decode()
    assert "license: mit" in card
    assert all(f"- {tag}\n" in card for tag in ("its-own", "mine", "generated_from_trainer"))
    future = trainer.push_to_hub(blocking=False, token=TOKEN, model_name="Other")
    assert future.result().oid == f"{2:040x}"
    assert hub.repositories[NAME].messages() == ["By hand", "End of training"]


def test_one_push_at_a_time(hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Opening(etude.TrainerCallback):
        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            hub.gate.set()

    hub.gate.clear()
    trainer = pushing(tmp_path, callbacks=[Opening()], save_total_limit=1)
    trainer.train()  # the checkpoint on its way is rotated away meanwhile
    assert hub.repositories[NAME].messages() == ["Training in progress, step 2"]
    assert [r.getMessage() for r in caplog.records if "is not pushed" in r.getMessage()] != []
    assert trainer.push_in_progress.is_done()
    assert not (tmp_path / "run" / "checkpoint-2").exists()


def test_always_push_queues_them(hub: FakeHub, tmp_path: Path) -> None:
    weights: list[bytes] = []

    class Opening(etude.TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            path = tmp_path / "run" / f"checkpoint-{state.global_step}" / "model.safetensors"
            weights.append(path.read_bytes())

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            hub.gate.set()

    hub.gate.clear()
    trainer = pushing(tmp_path, callbacks=[Opening()], save_total_limit=1, hub_always_push=True)
    trainer.train()
    repository = hub.repositories[NAME]
    assert repository.messages() == [f"Training in progress, step {step}" for step in (2, 4, 6)]
    assert [commit.files["model.safetensors"] for commit in repository.commits] == weights


def test_a_failed_push_is_told_and_the_run_goes_on(
    hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.failing = 1
    trainer, _ = waiting(tmp_path)
    assert trainer.train().global_step == 6
    assert hub.repositories[NAME].messages() == [
        "Training in progress, step 4",
        "Training in progress, step 6",
    ]
    (told,) = [record for record in caplog.records if "push" in record.getMessage()]
    assert told.levelno == logging.WARNING
    assert "checkpoint-2 failed" in told.getMessage()
    assert "403" in told.getMessage()


def test_a_hub_that_has_not_got_the_newest_model_is_an_error_line(
    hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, _ = waiting(tmp_path)
    hub.failing = 100
    trainer.train()
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "somebody/run failed" in told.getMessage()
    assert "push_to_hub()" in told.getMessage()
    assert not list((tmp_path / "run").glob(".push-*"))
    with pytest.raises(OSError, match="403"):
        trainer.push_to_hub()
    hub.failing = 0
    trainer.push_to_hub()
    assert hub.repositories[NAME].messages() == ["End of training"]


@pytest.mark.parametrize("given", [{"hub_token": "hf_wrong"}, {"hub_model_id": "no/such/name"}], ids=str)
def test_a_hub_that_refuses_is_known_before_training(given: Any, hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="hub_token") as caught:
        pushing(tmp_path, **given)
    assert isinstance(caught.value, OSError)
    assert "push_to_hub=False" in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_known_before_training(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="offline"):  # as the tests are
        pushing(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from etude.hub import client

    client.client.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        pushing(tmp_path)


def test_a_folder_without_a_name_needs_one(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = etude.Trainer.__new__(etude.Trainer)
    trainer.args = helpers.training_arguments(etude, "/", push_to_hub=True)
    with pytest.raises(ConfigurationError, match="hub_model_id"):
        trainer.init_hf_repo()


def test_what_a_killed_push_left_is_cleared(hub: FakeHub, tmp_path: Path) -> None:
    left = tmp_path / "run" / ".push-checkpoint-9"
    left.mkdir(parents=True)
    pushing(tmp_path)
    assert not left.exists()
