from __future__ import annotations

import pytest
import torch
from torch import nn

from etude.errors import ConfigurationError
from etude.models.neftune import noisy_embeddings


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embed(ids)


IDS = torch.arange(8).reshape(2, 4)


def test_noise_in_training_is_bounded_and_zero_on_average():
    model = Embedder()
    with noisy_embeddings(model, 3.0):
        noise = torch.cat([model(IDS) - model.embed.weight[IDS] for _ in range(500)])
    bound = 3.0 / (4 * 4) ** 0.5
    assert noise.abs().max() <= bound + 1e-6
    assert noise.abs().max() > 0.99 * bound
    assert abs(noise.mean()) < 0.02


def test_no_noise_in_evaluation_nor_afterwards():
    model = Embedder()
    clean = model(IDS)
    with noisy_embeddings(model, 3.0):
        assert not torch.equal(model(IDS), clean)
        assert torch.equal(model.eval()(IDS), clean)
    assert torch.equal(model.train()(IDS), clean)


def test_it_is_gone_after_an_error():
    model = Embedder()
    with pytest.raises(KeyboardInterrupt), noisy_embeddings(model, 3.0):
        raise KeyboardInterrupt
    assert not model.embed._forward_hooks


def test_none_means_none():
    model = Embedder()
    with noisy_embeddings(model, None) as handle:
        assert handle is None
        assert not model.embed._forward_hooks


def test_a_model_without_known_embeddings_is_refused():
    with (
        pytest.raises(ConfigurationError, match=r"neftune_noise_alpha.*get_input_embeddings"),
        noisy_embeddings(nn.Linear(2, 2), 1.0),
    ):
        pass
