"""Is an optimizer that moves the weights inside the backward pass the same optimizer?"""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

import etude
from etude.errors import ConfigurationError
from etude.optim import factory, low_rank
from etude.optim.layerwise import moving_in_backward
from etude.optim.recipe import Recipe
from tests import helpers
from tests.optim import stand_ins

NEEDED = {"max_grad_norm": 0, "on_nonfinite": "log"}


class Plain(etude.Trainer):
    """Trains with AdamW as it is."""

    cls: Any = torch.optim.AdamW

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None:
            decayed, others = list(self.model.body.parameters()), list(self.model.head.parameters())
            groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "lr": 0.02}]
            self.optimizer = self.cls(groups, lr=0.01)
        return self.optimizer


class Layerwise(Plain):
    """Trains with AdamW in the backward pass."""

    cls: Any = staticmethod(moving_in_backward(torch.optim.AdamW))


def trained(cls: Any, folder: Any, resume: Any = None, **fields: Any) -> Any:
    torch.manual_seed(0)
    args = helpers.training_arguments(etude, folder, max_steps=6, warmup_steps=2, **{**NEEDED, **fields})
    trainer = cls(helpers.DictClassifier(), args, train_dataset=helpers.feature_rows(24))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_weights_and_rows_are_those_of_the_optimizer_itself(tmp_path: Any) -> None:
    plain, layerwise = (trained(cls, tmp_path / cls.__name__) for cls in (Plain, Layerwise))
    helpers.assert_identical(layerwise.model.state_dict(), plain.model.state_dict())
    rows = [helpers.without_timing(trainer.state.log_history) for trainer in (plain, layerwise)]
    for row in (*rows[0], *rows[1]):
        row.pop("grad_norm", None)  # no gradient is left to measure
    assert rows[0] == rows[1]


def test_a_resumed_run_is_the_same(tmp_path: Any) -> None:
    whole = trained(Layerwise, tmp_path, save_strategy="steps", save_steps=3)
    resumed = trained(Layerwise, tmp_path, resume=str(tmp_path / "checkpoint-3"))
    helpers.assert_identical(resumed.model.state_dict(), whole.model.state_dict())


def test_gradients_do_not_stay_in_memory() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = moving_in_backward(torch.optim.SGD)([weight], lr=0.5)
    weight.sum().backward()
    assert weight.grad is None
    assert weight.tolist() == [0.5] * 3
    optimizer.step()
    assert weight.tolist() == [0.5] * 3


def test_an_optimizer_that_is_gone_moves_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = moving_in_backward(torch.optim.SGD)([weight], lr=0.5)
    del optimizer
    gc.collect()
    weight.sum().backward()
    assert weight.tolist() == [1.0] * 3
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gradient_accumulation_steps": 2}, "gradient accumulation"),
        ({"max_grad_norm": 1.0}, "clip gradients.*`max_grad_norm=0`"),
        ({"on_nonfinite": "raise"}, "not finite.*`on_nonfinite='log'`"),
        ({"fp16": True}, "loss scaling"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["galore_adafactor_layerwise", "apollo_adamw_layerwise"])
def test_what_needs_all_gradients_is_refused(
    name: str, fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install(monkeypatch)
    with pytest.raises(ConfigurationError, match=f"optim='{name}'.*{message}"):
        made(name, **fields)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    for key in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(key, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="several processes"):
        made("galore_adamw_layerwise")


def made(name: str, **fields: Any) -> Any:
    args = helpers.training_arguments(
        etude, "x", optim=name, optim_target_modules="all-linear", **{**NEEDED, **fields}
    )
    return factory.optimizer_class_and_options(args, helpers.DictClassifier())


def test_the_names_give_such_optimizers(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    assert all(isinstance(recipe, Recipe) for recipe in low_rank.RECIPES.values())
    for name in [name for name in low_rank.RECIPES if name.endswith("layerwise")]:
        cls, options = made(name)
        plain, plain_options = made(name.removesuffix("_layerwise"))
        assert (cls.__name__, cls.__mro__[1]) == (f"Layerwise{plain.__name__}", plain)
        assert options.keys() == plain_options.keys()
