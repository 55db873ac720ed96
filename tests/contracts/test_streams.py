"""Runs on streams that are broken off in their first and later passes: does going on leave a trace?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import IterableDataset, default_collate, get_worker_info

from tests import helpers
from tests.contracts.resuming import (
    BASE,
    InterruptedRunError,
    Result,
    Scenario,
    Stream,
    assert_same_run,
    build,
    make_breaker,
    read_log_file,
)

REPLAYED = "reading past"


class StatefulStream(IterableDataset):
    """Noisy rows that loading processes share, one part more than the other; it can be entered anywhere."""

    def __init__(self, count: int) -> None:
        self.rows = Stream(count, noisy=True).rows
        self.at = 0

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, second = (0, len(self.rows)), (len(self.rows) // 3, len(self.rows))
        begin, end = first if worker is None else [(0, second[0]), second][worker.id]
        while begin + self.at < end:
            self.at += 1
            yield self.rows[begin + self.at - 1]
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.at = state_dict["at"]


def streamed(shuffled: bool = False) -> Any:
    """A stream of the package datasets, from two files' worth of rows."""
    from datasets import Dataset

    rows = helpers.feature_rows(40).rows
    columns = {
        "features": [row["features"].tolist() for row in rows],
        "labels": [row["labels"] for row in rows],
    }
    stream = Dataset.from_dict(columns).to_iterable_dataset(num_shards=2).with_format("torch")
    return stream.shuffle(seed=5, buffer_size=12) if shuffled else stream


# 40 rows, 8 an update: three passes of 5 updates, with checkpoints after 3, 6, 9 ...
STREAMING = BASE.having(max_steps=15, eval_strategy="no")
KINDS: dict[str, Scenario] = {
    "plain": replace(STREAMING, rows=lambda: Stream(40, noisy=True)),
    "stateful": replace(STREAMING, rows=lambda: StatefulStream(40)),
    "datasets": replace(STREAMING, rows=streamed),
    "datasets-shuffled": replace(STREAMING, rows=lambda: streamed(shuffled=True)),
}
WORKERS = {"dataloader_num_workers": 2}
KINDS |= {f"{name}-two-workers": scenario.having(**WORKERS) for name, scenario in KINDS.items()}
KINDS["stateful-persistent-workers"] = KINDS["stateful-two-workers"].having(
    dataloader_persistent_workers=True
)
KINDS["stateful-loader"] = replace(STREAMING, rows=lambda: StatefulStream(40))


def trainer_of(kind: str, folder: Path, lib: Any, callbacks: list[Any]) -> Any:
    trainer_class = lib.Trainer
    if kind == "stateful-loader":
        torchdata = pytest.importorskip("torchdata.stateful_dataloader")

        class WithLoader(lib.Trainer):  # type: ignore[name-defined, misc]
            def get_train_dataloader(self) -> Any:
                return torchdata.StatefulDataLoader(
                    self.train_dataset, batch_size=4, collate_fn=self.data_collator
                )

        trainer_class = WithLoader
    return build(KINDS[kind], folder, lib, callbacks, trainer_class)


def run(kind: str, folder: Path, resume: bool | None = None, breaks_at: int | None = None) -> Result | None:
    """Runs to the end, or until it is broken off."""
    with helpers.library("etude") as lib:
        breaker = [] if breaks_at is None else [make_breaker(lib, "on_step_end", breaks_at)]
        trainer = trainer_of(kind, folder, lib, breaker)
        if breaks_at is not None:
            with pytest.raises(InterruptedRunError):
                trainer.train(resume_from_checkpoint=resume)
            return None
        output = trainer.train(resume_from_checkpoint=resume)
    rows = helpers.without_timing(trainer.state.log_history)
    return Result(helpers.weights_of(trainer.model), rows, read_log_file(folder), output)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """The run that nobody broke off."""
    runs: dict[str, Result] = {}

    def make(kind: str) -> Result:
        if kind not in runs:
            result = run(kind, tmp_path_factory.mktemp(kind))
            assert result is not None
            runs[kind] = result
        return runs[kind]

    return make


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind, marks=[pytest.mark.slow] if "workers" in kind and kind != "stateful-two-workers" else []
        )
        for kind in KINDS
    ],
)
def test_a_broken_run_leaves_no_trace(
    kind: str, whole: Callable[[str], Result], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken off in the first pass, in the second, and in the third."""
    for step, resume in ((5, None), (8, True), (14, True)):
        run(kind, tmp_path, resume, breaks_at=step)
    result = run(kind, tmp_path, resume=True)
    assert result is not None
    assert_same_run(result, whole(kind))
    assert (REPLAYED in caplog.text) is (kind.startswith("plain") or "shuffled" in kind)


def test_the_scenarios_would_notice(tmp_path: Path, whole: Callable[[str], Result]) -> None:
    """A pass that begins anew, instead of going on, ends with other weights."""
    run("datasets", tmp_path, breaks_at=8)
    for path in tmp_path.glob("checkpoint-*"):
        assert (path / "data_state.pt").is_file() or path.name == "checkpoint-5"
    with helpers.library("etude") as lib:
        scenario = KINDS["datasets"].having(ignore_data_skip=True)
        trainer = build(replace(scenario, collator=default_collate), tmp_path, lib)
        trainer.train(resume_from_checkpoint=True)
    weights = helpers.weights_of(trainer.model)
    assert helpers.relative_difference(weights, whole("datasets").weights) > 1e-4
