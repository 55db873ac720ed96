"""Are optional packages imported only when they are needed, and asked for by name?"""

from __future__ import annotations

import sys

import pytest

from etude.errors import MissingPackageError
from etude.optional import is_instance_of, require


def test_a_package_that_is_there_is_imported() -> None:
    assert require("json.decoder", "a test") is sys.modules["json.decoder"]


@pytest.mark.parametrize(("install", "name"), [(None, "no_such_package"), ("the-package", "the-package")])
def test_a_package_that_is_missing_is_asked_for(install: str | None, name: str) -> None:
    with pytest.raises(
        MissingPackageError, match=f"report_to='x' needs the package .*pip install {name}"
    ) as caught:
        require("no_such_package.part", "report_to='x'", install)
    assert isinstance(caught.value, ImportError)


def test_instances_are_recognised_without_importing() -> None:
    from collections import OrderedDict

    assert is_instance_of(OrderedDict(), "collections", "Missing", "OrderedDict")
    assert not is_instance_of({}, "collections", "OrderedDict")
    assert not is_instance_of({}, "a_module_nobody_has", "Thing")
    assert "a_module_nobody_has" not in sys.modules
