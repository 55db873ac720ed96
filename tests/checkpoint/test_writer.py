"""Is a checkpoint that is written beside the training whole, on time, and never silently missing?"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from etude.checkpoint import draft as drafting
from etude.checkpoint.store import CheckpointStore
from etude.checkpoint.writer import CheckpointWriter
from etude.core.world import World
from etude.errors import CheckpointError
from etude.strategies.base import Strategy
from tests import helpers
from tests.contracts.resuming import BASE, build, make_breaker, visible_checkpoints

ALONE = Strategy(World(), torch.device("cpu"))
PATIENCE = 30  # seconds after which a test that hangs fails


class Disk:
    """A store whose publishing can be held up, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.free.set()
        self.errors: list[BaseException] = []
        self.writing, self.most = 0, 0
        publish = CheckpointStore.publish

        def slow(store: CheckpointStore, step: int, staging: Path) -> None:
            self.writing += 1
            self.most = max(self.most, self.writing)
            assert self.free.wait(PATIENCE)
            self.writing -= 1
            if self.errors:
                raise self.errors.pop()
            publish(store, step, staging)

        monkeypatch.setattr(CheckpointStore, "publish", slow)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.free.set()


def new_writer(folder: Path, strategy: Strategy = ALONE, **options: Any) -> CheckpointWriter:
    return CheckpointWriter(CheckpointStore(str(folder), strategy), strategy, **options)


def filled(writer: CheckpointWriter, value: Any = None) -> Callable[[Path], None]:
    """Writes a state through the draft, and what makes a folder a checkpoint at once."""
    state = torch.ones(3) if value is None else value

    def fill(folder: Path) -> None:
        assert writer.draft is not None
        writer.draft.save_tensors(folder / f"state-{writer._strategy.world.rank}.pt", state)
        (folder / "trainer_state.json").write_text("{}")

    return fill


def save(writer: CheckpointWriter, step: int, fill: Any = None, **options: Any) -> None:
    options.setdefault("afterwards", lambda: None)
    writer.save(step, fill or filled(writer), {}, **options)


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, disk: Disk) -> None:
    disk.free.clear()
    writer, state = new_writer(tmp_path), torch.ones(3)
    save(writer, 1, filled(writer, state))
    state.zero_()
    writer.check()
    assert steps(tmp_path) == [".staging-checkpoint-1"]
    disk.free.set()
    writer.wait()
    assert steps(tmp_path) == ["checkpoint-1"]
    assert torch.load(tmp_path / "checkpoint-1" / "state-0.pt").tolist() == [1, 1, 1]


def test_one_is_written_at_a_time(tmp_path: Path, disk: Disk) -> None:
    writer = new_writer(tmp_path)
    for step in range(1, 6):
        disk.free.clear()
        threading.Timer(0.02, disk.free.set).start()
        save(writer, step)
    writer.wait()
    assert disk.most == 1
    assert len(steps(tmp_path)) == 5


def test_the_same_step_can_be_saved_twice(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)
    for number in (1.0, 2.0):
        save(writer, 4, filled(writer, torch.tensor(number)))
    writer.wait()
    assert steps(tmp_path) == ["checkpoint-4"]
    assert torch.load(tmp_path / "checkpoint-4" / "state-0.pt").item() == 2


@pytest.mark.parametrize("options", [{"background": False}, {"wait": True}], ids=str)
def test_who_waits_finds_the_checkpoint(options: dict[str, bool], tmp_path: Path) -> None:
    writer = new_writer(tmp_path, background=options.pop("background", True))
    seen: list[Any] = []
    save(
        writer,
        1,
        afterwards=lambda: seen.append([steps(tmp_path), threading.current_thread().name]),
        **options,
    )
    assert seen == [[["checkpoint-1"], "MainThread"]]


def test_memory_is_used_again_and_given_back(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)
    seen = []
    for step in (1, 2, 3):
        save(writer, step)
        seen.append([buffer.data_ptr() for buffer in writer._buffers._buffers.values()])
    assert len(seen[0]) == 1
    assert seen[0] == seen[1] == seen[2]
    writer.finish()
    assert writer._buffers._buffers == {}


def test_too_little_memory_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drafting, "available_bytes", lambda: 0)
    writer = new_writer(tmp_path)
    for step in (1, 2, 3):
        save(writer, step)
    writer.wait()
    assert len(steps(tmp_path)) == 3
    told = [record.message for record in caplog.records]
    assert told == [
        "Checkpoints are written while the training waits: a copy of state-0.pt (0.0 GB) does not fit into the 0.0 GB "
        "that are left."
    ]


# --- what goes wrong ----------------------------------------------------------------------------------------------

FULL = OSError(28, "No space left on device")
FAILURES = [
    FULL,
    OSError(),
    SafetensorError("I/O error: No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
]


@pytest.mark.parametrize("surface", ["check", "wait", "finish", "save"])
def test_a_failure_surfaces(surface: str, tmp_path: Path, disk: Disk) -> None:
    writer = new_writer(tmp_path)
    disk.errors.append(FULL)
    save(writer, 1)
    assert writer._thread is not None
    writer._thread.join()
    with pytest.raises(
        CheckpointError, match=r"step 1 .*No space left on device.*Earlier checkpoints are whole"
    ):
        save(writer, 2) if surface == "save" else getattr(writer, surface)()
    writer.check()  # once
    save(writer, 3)
    writer.finish()
    assert steps(tmp_path) == ["checkpoint-3"]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__ + str(failure)[:5])
@pytest.mark.parametrize("where", ["fill", "job", "publish"])
def test_a_policy_lets_the_training_go_on(
    where: str, failure: Exception, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    writer = new_writer(tmp_path, goes_on=True)

    def fail(*args: Any) -> None:
        raise failure

    def fill(folder: Path) -> None:
        filled(writer)(folder)
        assert writer.draft is not None
        if where == "job":
            writer.draft.later(fail)
        elif where == "fill":
            fail()

    if where == "publish":
        disk.errors.append(failure)
    save(writer, 1, fill)
    writer.wait()
    assert steps(tmp_path) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "checkpoint of step 1 could not be written" in caplog.text
    assert "The training goes on without it." in caplog.text
    save(writer, 2)
    writer.wait()
    assert steps(tmp_path) == ["checkpoint-2"]


def test_the_policy_does_not_hide_mistakes(tmp_path: Path) -> None:
    writer = new_writer(tmp_path, goes_on=True)

    def fill(folder: Path) -> None:
        raise TypeError("a mistake")

    save(writer, 1, fill)
    with pytest.raises(TypeError, match="a mistake"):
        writer.wait()


def test_an_error_without_a_word_is_an_error(tmp_path: Path) -> None:
    """`str(MemoryError())` is empty, and must not pass for success."""
    writer = new_writer(tmp_path)

    def fill(folder: Path) -> None:
        raise MemoryError

    save(writer, 1, fill)
    with pytest.raises(MemoryError):
        writer.wait()
    assert steps(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    writer = new_writer(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"step 1 cannot be written to .*file"):
        save(writer, 1)


def test_an_interrupt_leaves_nothing_that_is_in_the_way(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)

    def fill(folder: Path) -> None:
        filled(writer)(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(writer, 1, fill)
    assert writer.draft is None
    writer.drain()
    save(writer, 1)
    writer.wait()
    assert steps(tmp_path) == ["checkpoint-1"]


def test_an_interrupt_while_waiting_does_not_forget_the_checkpoint(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.free.clear()
    writer = new_writer(tmp_path)
    save(writer, 1)

    def interrupted(self: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.finish()
    disk.free.set()
    writer.finish()
    assert steps(tmp_path) == ["checkpoint-1"]


def test_draining_says_what_happened_and_raises_nothing(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (FULL, TypeError("a mistake")):
        writer = new_writer(tmp_path)
        disk.errors.append(error)
        save(writer, 1)
        writer.drain()
        assert str(error) in caplog.records[-1].message


def test_what_fails_after_the_checkpoint_is_visible_is_raised_and_the_checkpoint_stays(
    tmp_path: Path,
) -> None:
    writer = new_writer(tmp_path)

    def fail() -> None:
        raise ValueError("afterwards")

    save(writer, 1, afterwards=fail)
    with pytest.raises(ValueError, match="afterwards"):
        writer.wait()
    assert steps(tmp_path) == ["checkpoint-1"]


# --- several processes, played by threads -------------------------------------------------------------------------


class Meeting:
    """Where the ranks meet."""

    def __init__(self, size: int) -> None:
        self.values: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=PATIENCE)

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


class Rank(Strategy):
    """One of several ranks, each in a thread, with one meeting for the loop and one for the writer."""

    def __init__(self, rank: int, main: Meeting, side: Meeting) -> None:
        super().__init__(World(rank, rank, len(main.values)), torch.device("cpu"))
        self.main, self.side = main, side

    def gather_objects(self, value: Any) -> list[Any]:
        return self.main.gather(self.world.rank, value)

    def agree(self, flags: list[bool]) -> list[bool]:
        return [any(each) for each in zip(*self.gather_objects(flags), strict=True)]

    def channel(self) -> Any:
        class Channel:
            gather_objects = staticmethod(lambda value: self.side.gather(self.world.rank, value))

        return Channel()


def on_ranks(size: int, work: Callable[[Rank], Any]) -> list[Any]:
    """What `work` returns or raises on each rank."""
    main, side = Meeting(size), Meeting(size)
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(Rank(rank, main, side))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return results


def test_all_ranks_write_and_one_publishes(tmp_path: Path) -> None:
    def work(rank: Rank) -> None:
        writer = new_writer(tmp_path, rank)
        for step in (1, 2):
            save(writer, step)
        writer.finish()

    assert on_ranks(3, work) == [None] * 3
    for step in (1, 2):
        names = {path.name for path in (tmp_path / f"checkpoint-{step}").glob("state-*")}
        assert names == {"state-0.pt", "state-1.pt", "state-2.pt"}


@pytest.mark.parametrize(
    ("where", "culprit"), [("stage", 0), ("fill", 0), ("fill", 1), ("job", 0), ("job", 1)]
)
def test_what_fails_on_one_rank_fails_on_all(where: str, culprit: int, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def work(rank: Rank) -> list[str]:
        writer = new_writer(tmp_path / "out", rank)
        broken = rank.world.rank == culprit

        def fail() -> None:
            raise FULL

        def fill(folder: Path) -> None:
            filled(writer)(folder)
            if broken and where == "fill":
                fail()
            if broken and where == "job":
                assert writer.draft is not None
                writer.draft.later(fail)

        if where == "stage":
            if broken:
                (tmp_path / "out").rmdir()
                (tmp_path / "out").write_text("a file")
            rank.gather_objects(None)
        try:
            save(writer, 1, fill)
            writer.finish()
        except CheckpointError as error:
            return [str(error)]
        return []

    results = on_ranks(2, work)
    assert all(len(result) == 1 for result in results), results
    if where != "stage":
        assert all("No space left on device" in result[0] for result in results)
        assert steps(tmp_path / "out") == []


def test_a_rank_that_cannot_be_reached_is_no_silent_loss(tmp_path: Path) -> None:
    class Broken(Strategy):
        def channel(self) -> Any:
            raise RuntimeError("Connection closed by peer")

    writer = new_writer(tmp_path, Broken(World(), torch.device("cpu")))
    save(writer, 1)
    with pytest.raises(RuntimeError, match="closed by peer"):
        writer.wait()


# --- in a training ------------------------------------------------------------------------------------------------


def slow_saves(monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    """Every checkpoint is still being written some steps later."""
    save_ = CheckpointWriter.save

    def saving(self: CheckpointWriter, *args: Any, **kwargs: Any) -> None:
        self.wait()
        disk.free.clear()
        threading.Timer(0.1, disk.free.set).start()
        save_(self, *args, **kwargs)

    monkeypatch.setattr(CheckpointWriter, "save", saving)


@pytest.mark.parametrize("event", ["on_step_end", "on_log", "on_evaluate"])
def test_an_exception_waits_for_the_checkpoint(
    event: str, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_saves(monkeypatch, disk)
    with helpers.library("etude") as lib:
        trainer = build(BASE, tmp_path, lib, [make_breaker(lib, event, 4)])
        with pytest.raises(Exception, match="of step 4"):
            trainer.train()
    assert visible_checkpoints(tmp_path) == ["checkpoint-3"]
    assert not list(tmp_path.glob(".staging*"))


def test_leaving_the_program_waits_for_the_checkpoint(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_saves(monkeypatch, disk)
    with helpers.library("etude") as lib:

        class Leaving(lib.TrainerCallback):  # type: ignore[misc, name-defined]
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == 4:
                    sys.exit(3)

        with pytest.raises(SystemExit):
            build(BASE, tmp_path, lib, [Leaving()]).train()
    assert visible_checkpoints(tmp_path) == ["checkpoint-3"]


def test_the_end_waits_for_the_checkpoint_and_gives_memory_back(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_saves(monkeypatch, disk)
    with helpers.library("etude") as lib:
        trainer = build(BASE, tmp_path, lib)
        trainer.train()
    assert visible_checkpoints(tmp_path) == [f"checkpoint-{step}" for step in (3, 6, 9, 12, 15)]
    assert trainer._etude.writer._buffers._buffers == {}


def test_a_failed_save_stops_the_training_at_the_next_step(tmp_path: Path, disk: Disk) -> None:
    disk.errors.append(FULL)
    with helpers.library("etude") as lib:
        trainer = build(BASE, tmp_path, lib)
        with pytest.raises(CheckpointError, match="step 3 could not be written"):
            trainer.train()
    assert 3 <= trainer.state.global_step <= 6


def test_a_training_with_the_policy_goes_on(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.errors.append(FULL)
    with helpers.library("etude") as lib, caplog.at_level(logging.WARNING):
        trainer = build(BASE.having(on_save_error="continue"), tmp_path, lib)
        trainer.train()
    assert trainer.state.global_step == 15
    assert visible_checkpoints(tmp_path) == [f"checkpoint-{step}" for step in (6, 9, 12, 15)]
    assert "The training goes on without it." in caplog.text


def test_a_checkpoint_saved_by_hand_is_there_at_once(tmp_path: Path) -> None:
    with helpers.library("etude") as lib:
        trainer = build(BASE.having(max_steps=2, save_strategy="no"), tmp_path, lib)
        trainer.train()
        trainer._save_checkpoint(trainer.model, trial=None)
    assert visible_checkpoints(tmp_path) == ["checkpoint-2"]


def test_a_best_model_that_could_not_be_saved_does_not_end_the_training_with_an_error(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor are the other checkpoints removed for its sake."""
    disk.errors += [FULL] * 2
    scenario = BASE.having(
        on_save_error="continue", save_total_limit=1, load_best_model_at_end=True, eval_steps=3, max_steps=6
    )
    with helpers.library("etude") as lib, caplog.at_level(logging.WARNING):
        trainer = build(scenario, tmp_path, lib)
        trainer.train()
    assert visible_checkpoints(tmp_path) == []
    assert "there is no checkpoint of the best" in caplog.text
