"""The examples stay short, use public names only, and work."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import etude

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("[!_]*.py"))
MAX_LINES = 60
script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The examples' helper module, which is no package's part."""
    spec = importlib.util.spec_from_file_location("_data", EXAMPLES / "_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "_data", module)  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@script
def test_is_short(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) < MAX_LINES


@script
def test_compiles_and_imports_public_names_only(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"), filename=str(script))
    compile(tree, str(script), "exec")
    ours = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "")[:5] == "etude"
    ]
    assert {alias.name for node in ours for alias in node.names} <= set(etude.__all__)
    assert {node.module for node in ours} == {"etude"}


def test_a_damaged_download_is_refused(
    data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "CACHE", tmp_path)
    (tmp_path / data.DIGITS.filename).write_bytes(b"not the archive")
    with pytest.raises(RuntimeError, match="Delete it and run again"):
        data.mnist()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_digits_learns_saves_and_predicts(data: ModuleType, tmp_path: Path) -> None:
    if not (data.CACHE / data.DIGITS.filename).exists():
        pytest.skip("the digits are not in the cache: run `python examples/digits.py` once")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "digits.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = re.search(r"held-out digits: ([\d.]+)%", done.stdout)
    assert found is not None
    assert float(found[1]) > 93
    assert (tmp_path / "out" / "digits" / "final" / "model.safetensors").exists()
