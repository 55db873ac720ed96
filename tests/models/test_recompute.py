from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from etude.errors import ConfigurationError
from etude.models.recompute import enable_recomputation, repeated_blocks


class Counting(nn.Module):
    """A layer that counts how often it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return torch.tanh(self.linear(x))


class Stack(nn.Module):
    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Counting() for _ in range(depth))
        self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x).sum()


def gradients(model: nn.Module) -> list[torch.Tensor]:
    model.zero_grad()
    model(torch.ones(2, 4)).backward()
    return [p.grad for p in model.parameters()]


def runs(model: Stack) -> list[int]:
    for layer in model.layers:
        layer.runs = 0
    gradients(model)
    return [layer.runs for layer in model.layers]


def test_a_plain_module_runs_its_layers_twice_with_the_same_gradients():
    model = Stack()
    expected = gradients(model)
    assert runs(model) == [1, 1, 1, 1]
    enable_recomputation(model, None)
    assert runs(model) == [2, 2, 2, 2]
    for ours, plain in zip(gradients(model), expected, strict=True):
        assert torch.equal(ours, plain)


def test_every_second_layer():
    model = Stack()
    enable_recomputation(model, {"every_n_layers": 2})
    assert runs(model) == [2, 1, 2, 1]


def test_twice_is_once():
    model = Stack()
    enable_recomputation(model, None)
    enable_recomputation(model, None)
    assert runs(model) == [2, 2, 2, 2]


def test_evaluation_computes_once():
    model = Stack().eval()
    enable_recomputation(model, None)
    assert runs(model) == [1, 1, 1, 1]


def test_the_names_of_parameters_do_not_change():
    model = Stack()
    names = list(model.state_dict())
    enable_recomputation(model, None)
    assert list(model.state_dict()) == names


def test_transformers_models_are_asked_to():
    model = BertModel(
        BertConfig(
            vocab_size=10, hidden_size=8, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16
        )
    )
    enable_recomputation(model, {"every_n_layers": 2, "use_reentrant": False})
    assert [layer.gradient_checkpointing for layer in model.encoder.layer] == [True, False, True, False]


class Older(nn.Linear):
    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs=None):
        self.got = gradient_checkpointing_kwargs


def test_the_older_method_gets_the_options():
    model = Older(2, 2)
    enable_recomputation(model, {"use_reentrant": False})
    assert model.got == {"use_reentrant": False}


def test_the_older_method_is_not_given_what_it_does_not_know():
    with pytest.raises(ConfigurationError, match=r"every_n_layers.*Older"):
        enable_recomputation(Older(2, 2), {"every_n_layers": 2})


def test_offload_of_a_plain_module_is_refused():
    with pytest.raises(ConfigurationError, match="offload"):
        enable_recomputation(Stack(), {"offload": True})


def test_blocks_are_the_longest_list_of_one_class():
    assert len(repeated_blocks(Stack(3))) == 3


def test_a_model_without_layers_is_refused():
    with pytest.raises(ConfigurationError, match=r"activation_checkpointing.*Linear"):
        enable_recomputation(nn.Linear(2, 2), None)
