"""Are the public names exactly those promised, and is importing them cheap?"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import etude

HEAVY = ("transformers", "datasets", "accelerate", "pandas", "scipy", "sklearn", "tensorboard", "wandb")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
    )
    return done.stdout.strip()


def test_the_names_are_exactly_those() -> None:
    assert sorted(etude.__all__) == dir(etude)
    assert len(set(etude.__all__)) == len(etude.__all__)
    assert set(etude.__all__) - {"__version__"} == set(etude._PUBLIC)


@pytest.mark.parametrize("name", etude.__all__)
def test_every_name_can_be_imported(name: str) -> None:
    value = getattr(etude, name)
    if name != "__version__":
        assert value is getattr(importlib.import_module(etude._PUBLIC[name]), name)
        assert isinstance(value, str) or value.__module__.startswith("etude.")


def test_type_checkers_see_the_same_names_in_the_same_places() -> None:
    tree = ast.parse(Path(etude.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == etude._PUBLIC


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'etude' has no attribute 'Trainr'"):
        etude.Trainr  # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", etude.__version__)


def test_every_name_is_one_of_the_references() -> None:
    import transformers
    from transformers import (
        debug_utils,
        hf_argparser,
        optimization,
        trainer,
        trainer_callback,
        trainer_pt_utils,
        trainer_utils,
        training_args,
    )

    places = (
        transformers,
        trainer,
        trainer_callback,
        trainer_pt_utils,
        trainer_utils,
        training_args,
        debug_utils,
        hf_argparser,
        optimization,
    )
    from transformers.data import data_collator

    known = {name for place in (*places, data_collator) for name in dir(place)}
    of_version_4 = {"EvaluationStrategy", "DataCollatorForWholeWordMask"}
    needs_ipython = {"NotebookProgressCallback"}
    own = {"MixedDataset"}
    assert set(etude._PUBLIC) - known <= of_version_4 | needs_ipython | own


def test_importing_loads_nothing_heavy() -> None:
    code = f"""
import sys, etude
loaded = [name for name in {HEAVY!r} if name in sys.modules]
from etude import *
loaded += [name for name in {HEAVY!r} if name in sys.modules]
print(loaded)
"""
    assert run(code) == "[]"


def test_importing_starts_and_changes_nothing() -> None:
    code = """
import os, threading, random
import torch
before = dict(os.environ), torch.random.get_rng_state().sum().item(), random.getstate(), threading.active_count()
from etude import *
after = dict(os.environ), torch.random.get_rng_state().sum().item(), random.getstate(), threading.active_count()
print(before == after, torch.distributed.is_initialized())
"""
    assert run(code) == "True False"
