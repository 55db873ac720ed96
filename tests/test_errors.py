"""Is there one tree of errors, and does `except` for the reference's classes still work?"""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle
import re

import pytest

from etude import errors

CLASSES = {
    name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, Exception)
}
DOCUMENTED = dict(re.findall(r"(\w+Error)(?: \((\w+)\))?", errors.__doc__ or ""))


def test_the_documented_tree_is_the_tree() -> None:
    assert set(DOCUMENTED) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_is_an_etude_error_and_the_documented_builtin(name: str) -> None:
    assert issubclass(CLASSES[name], errors.EtudeError)
    if DOCUMENTED[name]:
        assert issubclass(CLASSES[name], getattr(builtins, DOCUMENTED[name]))


def test_options_not_offered_are_configuration_errors() -> None:
    assert issubclass(errors.UnsupportedOptionError, errors.ConfigurationError)


def test_a_metric_error_reads_like_a_sentence() -> None:
    assert str(errors.MetricError("no 'f1'\nhere")) == "no 'f1'\nhere"
    assert str(errors.MetricError()) == ""


def test_a_non_finite_error_knows_where_it_happened() -> None:
    error = errors.NonFiniteError("bad", step=3, loss=1.0, grad_norm=2.0, samples=[4])
    assert (str(error), error.step, error.loss, error.grad_norm, error.samples) == ("bad", 3, 1.0, 2.0, [4])
    assert errors.NonFiniteError("bad", step=3, loss=1.0, grad_norm=2.0).samples is None


def test_a_non_finite_error_can_go_from_process_to_process() -> None:
    error = errors.NonFiniteError("bad", step=3, loss=1.0, grad_norm=2.0, samples=[4])
    for copied in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(copied), copied.step, copied.samples) == ("bad", 3, [4])
