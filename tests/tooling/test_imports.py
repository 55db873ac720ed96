"""`import etude` is cheap and without side effects: optional packages are imported when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import etude

OPTIONAL = {"accelerate", "datasets", "pandas", "peft", "scipy", "sklearn", "tokenizers", "transformers"}
IMPORT_ALL = """
import importlib, pkgutil, etude
for module in pkgutil.walk_packages(etude.__path__, "etude."):
    importlib.import_module(module.name)
"""
IMPORTS = {
    "package": "import etude",
    "trainer": "from etude import Trainer, TrainingArguments",
    "every module": IMPORT_ALL,
}


def in_new_process(code: str) -> str:
    """What `code` prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("statement", IMPORTS.values(), ids=IMPORTS)
def test_importing_loads_no_optional_package(statement: str) -> None:
    loaded = in_new_process(
        f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    assert OPTIONAL.isdisjoint(loaded.split())


def test_importing_starts_no_thread_and_leaves_the_environment_alone() -> None:
    assert (
        in_new_process(f"""
import os, threading, torch
before = dict(os.environ), threading.active_count(), torch.initial_seed()
{IMPORT_ALL}
print(before == (dict(os.environ), threading.active_count(), torch.initial_seed()))
""")
        == "True"
    )


@pytest.mark.parametrize("name", etude.__all__)
def test_every_public_name_can_be_loaded(name: str) -> None:
    assert getattr(etude, name) is not None
