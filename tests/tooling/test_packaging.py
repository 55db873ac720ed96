"""What `pyproject.toml` and `constraints.txt` say agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib", reason="reads TOML, which Python does from 3.11 on")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_everything_a_contributor_installs_is_pinned(project: dict[str, Any], pins: dict[str, str]) -> None:
    wanted = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    unpinned = [str(need) for need in wanted if canonicalize_name(need.name) not in pins]
    assert not unpinned
    refused = [
        str(need) for need in wanted if not need.specifier.contains(pins[canonicalize_name(need.name)])
    ]
    assert not refused


def test_the_reference_of_the_parity_tests_is_one_version(
    project: dict[str, Any], pins: dict[str, str]
) -> None:
    assert f"transformers=={pins['transformers']}" in project["optional-dependencies"]["dev"]
