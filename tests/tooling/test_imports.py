"""No module of etude imports an optional package, or has an effect, before it is used."""

from __future__ import annotations

import subprocess
import sys

OPTIONAL = {"accelerate", "datasets", "pandas", "peft", "scipy", "sklearn", "tokenizers", "transformers"}
IMPORT_ALL = """
import importlib, pkgutil, etude
for module in pkgutil.walk_packages(etude.__path__, "etude."):
    importlib.import_module(module.name)
"""


def in_new_process(code: str) -> str:
    """What `code` prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_no_module_imports_an_optional_package() -> None:
    loaded = in_new_process(
        f"import sys\n{IMPORT_ALL}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    assert OPTIONAL.isdisjoint(loaded.split())


def test_no_module_starts_a_thread_or_touches_the_environment() -> None:
    code = f"""
import os, threading, torch
before = dict(os.environ), threading.active_count(), torch.initial_seed()
{IMPORT_ALL}
print(before == (dict(os.environ), threading.active_count(), torch.initial_seed()))
"""
    assert in_new_process(code) == "True"
