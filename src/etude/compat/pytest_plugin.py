"""`pytest -p etude.compat.pytest_plugin`: runs a test suite written for transformers' Trainer on etude."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from etude.compat.installation import install


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: Any) -> Iterator[None]:
    """Installs etude before any conftest.py is imported."""
    install()
    return (yield)
