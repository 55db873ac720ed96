from __future__ import annotations

import inspect
import types

import pytest
import torch
from torch import nn

from etude.models.compiling import Compilation


class Doubler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return x * self.weight * scale


class Backend:
    """Counts how often a graph is compiled."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


X = torch.arange(3.0)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()


def test_forward_is_compiled_in_place_and_put_back():
    backend, model = Backend(), Doubler()
    compilation = Compilation(True, backend=backend)
    names = list(model.state_dict())
    with compilation.applied(model):
        assert torch.equal(model(X), 2 * X)
        assert list(model.state_dict()) == names
        assert "scale" in inspect.signature(model.forward).parameters
        assert type(model) is Doubler
    assert backend.graphs == 1
    assert "forward" not in vars(model)


def test_it_is_compiled_once():
    backend, model = Backend(), Doubler()
    compilation = Compilation(True, backend=backend)
    for _ in range(3):
        with compilation.applied(model), compilation.applied(model):
            model(X)
        assert "forward" not in vars(model)
    assert backend.graphs == 1


def test_hooks_still_run():
    model, seen = Doubler(), []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with Compilation(True, backend="eager").applied(model):
        model(X)
    assert len(seen) == 1


def test_a_forward_of_the_users_own_comes_back():
    model = Doubler()
    own = types.MethodType(lambda self, x: x + 1, model)
    model.forward = own
    with Compilation(True, backend="eager").applied(model):
        assert torch.equal(model(X), X + 1)
    assert model.forward is own


def test_switched_off_it_does_nothing():
    model = Doubler()
    with Compilation(False).applied(model):
        assert "forward" not in vars(model)
