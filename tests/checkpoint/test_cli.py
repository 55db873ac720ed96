"""`python -m etude.checkpoint`: is what it says true, does its exit status say it too, and is what it writes usable?"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from etude.checkpoint.__main__ import main
from etude.checkpoint.inspect import size_text
from etude.checkpoint.manifest import Manifest, describe_all
from etude.checkpoint.sharding import part_of
from etude.checkpoint.tensors import load_tensors
from tests import helpers
from tests.contracts.resuming import BASE, Scenario, finish
from tests.distributed.launch import child_environment, run_ranks
from tests.parity.runner import GPT2, assert_same_rows, run

SCENARIO: Scenario = replace(BASE, rows=lambda: helpers.feature_rows(24)).having(
    num_train_epochs=2, save_steps=2, eval_strategy="no", hub_token="secret"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run."""
    folder = tmp_path_factory.mktemp("made")
    finish(SCENARIO, folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def rows(printed: str) -> list[list[str]]:
    """The cells of a table, by line."""
    return [[cell for cell in line.split("  ") if cell] for line in printed.splitlines()[1:]]


@pytest.mark.parametrize(("command", "whole"), [("list", "complete"), ("verify", "good")])
def test_the_table_has_a_line_for_each(
    command: str, whole: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "checkpoint-900").mkdir()
    (folder / "checkpoint-best").mkdir()
    (folder / "checkpoint-4" / "scheduler.pt").unlink()
    assert main([command, str(folder)]) == 1
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == str(folder)
    heading, *lines = rows(printed)
    assert [cell.strip() for cell in heading] == ["step", "size", "written", "processes", "state"]
    assert [line[0].strip() for line in lines] == ["2", "4", "6", "900"]
    assert [line[-1].strip() for line in lines] == [
        whole,
        "broken: scheduler.pt is gone",
        whole,
        "broken: it has no trainer_state.json",
    ]
    size = sum(path.stat().st_size for path in (folder / "checkpoint-2").iterdir())
    assert lines[0][1].strip() == size_text(size)
    assert lines[0][3].strip() == "1"
    assert max(map(len, printed.splitlines()[1:])) < 100


def test_only_reading_it_finds_a_changed_byte(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "checkpoint-4" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert main(["list", str(folder)]) == 0
    assert main(["verify", str(folder / "checkpoint-6"), str(folder / "checkpoint-2")]) == 0
    capsys.readouterr()
    assert main(["verify", str(path.parent)]) == 1
    assert "broken: the content of model.safetensors has changed" in capsys.readouterr().out


def test_checkpoints_of_the_reference_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("manifest.json", "etude_state.json"):
        (folder / "checkpoint-6" / name).unlink()
    for rank in range(4):
        shutil.copy(
            folder / "checkpoint-6" / "rng_state.pth", folder / "checkpoint-6" / f"rng_state_{rank}.pth"
        )
    (folder / "checkpoint-6" / "rng_state.pth").unlink()
    assert main(["verify", str(folder / "checkpoint-6")]) == 0
    (line,) = rows(capsys.readouterr().out)[1:]
    assert [line[0].strip(), *(cell.strip() for cell in line[3:])] == ["6", "4", "good"]


@pytest.mark.parametrize(
    "arguments", [["verify", "{}/nowhere"], ["list", "{}"], ["diff", "{}", "{}"], ["export", "{}", "{}"]]
)
def test_where_there_is_nothing_the_status_is_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert str(tmp_path) in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("arguments", [[], ["clean"], ["verify"], ["export", "a", "b", "--format", "csv"]])
def test_a_wrong_command_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m etude.checkpoint" in capsys.readouterr().err


def test_it_is_a_module_that_can_be_run(folder: Path) -> None:
    command = [sys.executable, "-m", "etude.checkpoint", "list", str(folder)]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("complete") == 3


# --- diff ---------------------------------------------------------------------------------------------------------


def difference(
    one: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, list[str]]]:
    """The exit status, and the lines by topic."""
    status = main(["diff", str(one), str(other)])
    topics: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines()[1:]:
        if line.startswith(" "):
            topics[list(topics)[-1]].append(line.strip())
        else:
            topics[line] = []
    return status, topics


def test_a_checkpoint_is_the_same_as_its_copy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folder / "checkpoint-4", folder / "copy")
    status, topics = difference(folder / "checkpoint-4", folder / "copy", capsys)
    assert status == 0
    assert topics == {topic: ["the same"] for topic in ("arguments", "state", "files", "weights")}


def test_what_differs_is_said_by_topic(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(SCENARIO.having(weight_decay=0.5, hub_token="other", max_steps=4), folder / "other")
    status, topics = difference(folder / "checkpoint-2", folder / "other" / "checkpoint-4", capsys)
    assert status == 1
    assert {line.split("  ")[0]: line.split("  ")[-1].strip() for line in topics["arguments"]} == {
        "output_dir": topics["arguments"][0].split("  ")[-1].strip(),
        "max_steps": "-1 -> 4",
        "weight_decay": "0.01 -> 0.5",
    }
    assert "secret" not in str(topics)
    assert [line.split() for line in topics["state"] if line.startswith("global_step")] == [
        ["global_step", "2", "->", "4"]
    ]
    assert ["optimizer.pt", "differs"] in [line.split() for line in topics["files"]]
    one, other = (
        load_file(f / "model.safetensors")
        for f in (folder / "checkpoint-2", folder / "other" / "checkpoint-4")
    )
    distances = {name: float((one[name] - other[name]).abs().max()) for name in one}
    names = sorted(distances, key=lambda name: -distances[name])
    assert [line.split() for line in topics["weights"]] == [
        [n, "up", "to", f"{distances[n]:.3g}"] for n in names
    ]


def test_the_ten_largest_differences_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (0, 1):
        path = tmp_path / f"checkpoint-{number}"
        path.mkdir()
        (path / "trainer_state.json").write_text('{"global_step": 1, "log_history": []}')
        tensors = {f"t{i}": torch.full((2,), float(number * i)) for i in range(20)}
        tensors["same"] = torch.ones(1)
        tensors[f"own{number}"] = torch.ones(1)
        tensors["shape"] = torch.ones(number + 1)
        tensors["broken"] = torch.tensor([float("nan") if number else 0.0])
        save_file(tensors, path / "model.safetensors")
    _, topics = difference(tmp_path / "checkpoint-0", tmp_path / "checkpoint-1", capsys)
    assert [line.split("  ")[0].strip() for line in topics["weights"]] == [
        *("own0", "own1", "broken", "shape", *(f"t{i}" for i in range(19, 11, -1))),
        "and 11 more",
    ]
    assert topics["arguments"] == topics["state"] == ["the same"]


def test_two_checkpoints_are_compared_not_two_folders(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(folder), str(folder / "checkpoint-2")]) == 2
    assert "name one of them" in capsys.readouterr().err


# --- export -------------------------------------------------------------------------------------------------------


def in_parts(checkpoint: Path) -> None:
    """Makes the checkpoint one whose optimizer was written by two processes."""
    state = load_tensors(checkpoint / "optimizer.pt")
    for rank in range(2):
        torch.save(part_of(state, rank, 2), checkpoint / f"optimizer-{rank:05d}-of-00002.pt")
    (checkpoint / "optimizer.pt").unlink()
    Manifest(4, 2, describe_all(checkpoint), {}).save(checkpoint)


def test_an_export_is_what_the_reference_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = load_tensors(folder / "checkpoint-4" / "optimizer.pt")
    in_parts(folder / "checkpoint-4")
    assert main(["export", str(folder / "checkpoint-4"), str(folder / "out")]) == 0
    assert capsys.readouterr().out.startswith(str(folder / "out"))
    assert {path.name for path in (folder / "out").iterdir()} == {
        "model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
        "training_args.bin",
        "training_args.json",
    }
    after = load_tensors(folder / "out" / "optimizer.pt")
    assert list(after["state"]) == list(before["state"])
    assert str(after) == str(before)
    assert main(["verify", str(folder / "out")]) == 0


def test_nothing_is_overwritten_and_nothing_broken_exported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").mkdir()
    assert main(["export", str(folder / "checkpoint-4"), str(folder / "out")]) == 2
    assert "is there already" in capsys.readouterr().err
    (folder / "checkpoint-4" / "optimizer.pt").write_bytes(b"")
    assert main(["export", str(folder / "checkpoint-4"), str(folder / "new")]) == 2
    assert "optimizer.pt has 0 bytes" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir() if "checkpoint" not in path.name) == [
        "log.jsonl",
        "out",
    ]


CASE = GPT2.having(
    save_strategy="steps", save_steps=6, num_train_epochs=3, per_device_train_batch_size=4, weight_decay=0.1
)


def on_two_ranks(folder: Path) -> None:
    """The first part of the run, with the same global batches, by two processes."""
    run("etude", CASE.having(per_device_train_batch_size=2), folder)


@pytest.mark.slow
@pytest.mark.distributed
def test_the_reference_goes_on_from_what_two_processes_wrote(tmp_path: Path) -> None:
    """And ends where a run in one process ends."""
    run_ranks(on_two_ranks, tmp_path / "two", 2)
    checkpoint = tmp_path / "two" / "etude" / "checkpoint-6"
    assert not (checkpoint / "optimizer.pt").exists()
    assert main(["export", str(checkpoint), str(tmp_path / "checkpoint-6")]) == 0
    whole: Any = run("transformers", CASE, tmp_path / "whole")
    resumed: Any = run("transformers", CASE, tmp_path / "resumed", resume=str(tmp_path / "checkpoint-6"))
    assert resumed.output.global_step == whole.output.global_step
    assert_same_rows(resumed.log_history[:-1], whole.log_history[:-1])
    # Two processes add gradients in another order, which Adam makes more of; a fresh optimizer would be off by 0.01.
    assert helpers.relative_difference(resumed.weights, whole.weights) < 1e-4
