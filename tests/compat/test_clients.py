"""Trainers of trl and sentence-transformers, unmodified, log on etude what they log on transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CLOCK = ("_runtime", "_per_second", "step_time")
QUICK = ("preference.sft", "sentences.sentence")
ALL = (
    *QUICK,
    "preference.sft_recomputed",
    "preference.sft_lora",
    "preference.reward",
    "preference.dpo",
    "preference.dpo_reference",
    "preference.kto",
    "online.grpo",
    "online.rloo",
    "sentences.several_datasets",
    "sentences.cross_encoder",
)


def run_clients(folder: Path, clients: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What the clients leave behind under each library, both running at once."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    started = {}
    for library, prefix in (("transformers", []), ("etude", ["-m", "etude.compat"])):
        command = [sys.executable, *prefix, "-m", "tests.compat.clients", str(folder / library), *clients]
        started[library] = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    outputs = {library: process.communicate(timeout=600)[0] for library, process in started.items()}
    for library, process in started.items():
        assert process.returncode == 0, f"{library}:\n{outputs[library][-3000:]}"
    return {
        library: json.loads((folder / library / "outcome.json").read_text(encoding="utf-8"))
        for library in started
    }


def rows_without_clock(outcome: dict[str, Any], client: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.endswith(CLOCK)} for row in outcome["logs"][client]]


def assert_same(outcomes: dict[str, dict[str, Any]], clients: tuple[str, ...]) -> None:
    ours, theirs = outcomes["etude"], outcomes["transformers"]
    for client in clients:
        mine, reference = rows_without_clock(ours, client), rows_without_clock(theirs, client)
        assert sum("loss" in row and "grad_norm" in row for row in reference) >= 2
        assert len(mine) == len(reference)
        for row, expected in zip(mine, reference, strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-9), f"{client}, step {expected['step']}"
        assert ours["weights"][client] == pytest.approx(theirs["weights"][client], rel=1e-6)
    assert theirs["reference_functions"], "the check for the reference's code finds it where it runs"
    assert ours["reference_functions"] == []


@pytest.mark.slow
def test_fine_tuning_and_embeddings_log_the_same_numbers(tmp_path: Path) -> None:
    assert_same(run_clients(tmp_path, QUICK), QUICK)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_client_logs_the_same_numbers(tmp_path: Path) -> None:
    assert_same(run_clients(tmp_path, ALL), ALL)
