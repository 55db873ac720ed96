from __future__ import annotations

import sys
from types import ModuleType

import pytest
from torch import nn

from etude.errors import ConfigurationError, MissingPackageError
from etude.models.liger import apply_liger_kernel
from tests import helpers


@pytest.fixture
def applied(monkeypatch) -> list:
    """What a stand-in for liger-kernel, which needs a GPU, is called with."""
    calls: list = []
    package, inner = ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers")
    inner._apply_liger_kernel_to_instance = lambda **given: calls.append(given)
    package.transformers = inner
    monkeypatch.setitem(sys.modules, "liger_kernel", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", inner)
    return calls


def test_the_model_gets_the_kernels_that_are_not_switched_off(applied):
    model = helpers.gpt2_model()
    apply_liger_kernel(model, {"rope": False})
    assert applied == [{"model": model, "rope": False}]


def test_only_models_of_transformers(applied):
    with pytest.raises(ConfigurationError, match=r"use_liger_kernel.*Linear"):
        apply_liger_kernel(nn.Linear(2, 2), None)
    assert not applied


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(MissingPackageError, match="pip install liger-kernel"):
        apply_liger_kernel(helpers.gpt2_model(), None)
