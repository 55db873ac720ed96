from __future__ import annotations

import pytest
import torch
from torch import nn

from etude.models.casting import cast_model

CPU = torch.device("cpu")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.linear.weight

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        self.seen = x.dtype, ids.dtype
        return self.tied(self.norm(self.linear(x)))


def test_everything_is_cast_and_comes_back_to_the_bit():
    model = Network().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with cast_model(model, torch.bfloat16, CPU):
        assert model.linear.weight.dtype is torch.bfloat16
        assert model.tied.weight is model.linear.weight
        assert model.norm.num_batches_tracked.dtype is torch.int64
        assert model(torch.ones(2, 3), torch.ones(2, dtype=torch.long)).dtype is torch.bfloat16
        assert model.seen == (torch.bfloat16, torch.int64)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype
    assert not model._forward_pre_hooks


def test_an_optimizer_still_has_the_models_parameters():
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with cast_model(model, torch.float16, CPU):
        pass
    before = model.tied.bias.detach().clone()
    model(torch.ones(2, 3), torch.ones(2)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.tied.bias, before)


def test_the_weights_come_back_after_an_error():
    model = Network()
    with pytest.raises(ZeroDivisionError), cast_model(model, torch.float16, CPU):
        raise ZeroDivisionError
    assert model.linear.weight.dtype is torch.float32


def test_none_leaves_the_model_alone():
    model = Network()
    with cast_model(model, None, CPU):
        assert model.linear.weight.dtype is torch.float32
