"""Learning rates of parts of the model: which parameter has which?"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import etude
from etude.errors import ConfigurationError
from etude.optim.rates import depth_factors, learning_rates
from tests import helpers

BART = [
    "model.shared.weight", "model.encoder.embed_positions.weight", "model.encoder.layers.0.fc.weight",
    "model.encoder.layers.1.fc.weight", "model.encoder.layernorm_embedding.weight",
    "model.decoder.embed_positions.weight", "model.decoder.layers.0.fc.weight", "model.decoder.layers.1.fc.weight",
    "model.decoder.layers.2.fc.weight", "lm_head.weight",
]  # fmt: skip


def by_name(trainer: Any) -> dict[str, float]:
    """The learning rate of each trained parameter of the optimizer."""
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


def trainer_of(model: Any, folder: Any = "x", **fields: Any) -> Any:
    args = helpers.training_arguments(etude, folder, learning_rate=0.1, **fields)
    return etude.Trainer(model, args, train_dataset=helpers.feature_rows(24))


def test_depth_is_counted_from_the_top() -> None:
    found = by_name(trainer_of(helpers.bert_classifier(), layerwise_lr_decay=0.5))
    expected = {"bert.embeddings": 0.0125, "bert.encoder.layer.0": 0.025, "bert.encoder.layer.1": 0.05,
                "bert.pooler": 0.1, "classifier": 0.1}  # fmt: skip
    for name, rate in found.items():
        assert rate == next(r for part, r in expected.items() if name.startswith(part)), name


def test_depth_of_gpt2() -> None:
    found = by_name(trainer_of(helpers.gpt2_model(), layerwise_lr_decay=0.5))
    assert found["transformer.wte.weight"] == found["transformer.wpe.weight"] == 0.0125  # tied to the head
    assert (found["transformer.h.0.ln_1.weight"], found["transformer.h.1.ln_1.weight"]) == (0.025, 0.05)
    assert found["transformer.ln_f.weight"] == 0.1


def test_stacks_are_counted_one_by_one() -> None:
    depths = [4, 4, 2, 1, 0, 4, 3, 2, 1, 0]
    assert depth_factors(BART, 0.5) == {name: 0.5**d for name, d in zip(BART, depths, strict=True)}


def test_the_outermost_number_counts() -> None:
    names = ["shared", "encoder.block.0.layer.0.a", "encoder.block.0.layer.1.a", "encoder.block.1.layer.0.a"]
    assert list(depth_factors(names, 0.5).values()) == [0.125, 0.25, 0.25, 0.5]


def test_patterns_come_before_depth_and_the_first_counts() -> None:
    rates = {"classifier.bias": 0.3, "classifier|pooler": 0.2}
    found = by_name(trainer_of(helpers.bert_classifier(), learning_rates=rates, layerwise_lr_decay=0.5))
    assert found["classifier.bias"] == 0.3
    assert found["classifier.weight"] == found["bert.pooler.dense.bias"] == 0.2
    assert found["bert.encoder.layer.1.output.dense.weight"] == 0.05


def test_decay_and_rate_make_groups_and_the_base_rate_comes_first() -> None:
    fields = {"learning_rates": json.dumps({"body": 0.01, "head.bias": "0.5"}), "weight_decay": 0.2}
    trainer = trainer_of(helpers.DictClassifier(), **fields)
    groups = trainer.create_optimizer().param_groups
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.1, 0.2, 1), (0.01, 0.2, 1), (0.01, 0.0, 3), (0.5, 0.0, 1),
    ]  # fmt: skip
    assert trainer.get_learning_rates() == [0.1, 0.01, 0.01, 0.5]


@pytest.mark.parametrize(
    "optim", ["adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop", "adafactor"]
)
def test_every_schedule_keeps_their_ratio(optim: str, tmp_path: Any) -> None:
    trainer = trainer_of(
        helpers.DictClassifier(), tmp_path, learning_rates={"head": 0.02}, optim=optim, warmup_steps=2,
        lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr": 0.01}, max_steps=5,
    )  # fmt: skip
    ratios = []

    class Watch(etude.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            base, head = {*trainer.get_learning_rates()[:2]}, trainer.get_learning_rates()[-1]
            assert len(base) == 1
            ratios.append(head / base.pop())

    trainer.add_callback(Watch())
    trainer.train()
    assert ratios == pytest.approx([0.2] * 5)
    assert [row["learning_rate"] for row in trainer.state.log_history[:2]] == [0.0, 0.05]


def test_a_parameter_with_rate_0_stays_where_it_is(tmp_path: Any) -> None:
    trainer = trainer_of(helpers.DictClassifier(), tmp_path, learning_rates={"body": 0.0}, max_steps=2)
    before = helpers.weights_of(trainer.model)
    trainer.train()
    same = {n for n, w in trainer.model.state_dict().items() if torch.equal(w, before[n])}
    assert same == {n for n in before if n.startswith("body")}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"clasifier": 0.1}, "'clasifier'.*Did you mean.*'classifier'"),
        ({"encoder.layer.7": 0.1}, "'encoder.layer.7'.*Did you mean"),
        ({"qqq": 0.1}, "'qqq'.*One of them is 'bert.embeddings"),
        ({"bert": 0.1, "pooler": 0.2}, "earlier pattern matches all that 'pooler' does"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(patterns: dict[str, float], message: str) -> None:
    names = [name for name, _ in helpers.bert_classifier().named_parameters()]
    with pytest.raises(ConfigurationError, match=f"`learning_rates`.*{message}"):
        learning_rates(names, 0.1, patterns, None)


def test_frozen_parameters_do_not_count() -> None:
    model = helpers.DictClassifier()
    model.body.requires_grad_(False)
    with pytest.raises(ConfigurationError, match="no trained parameter.*'body'"):
        trainer_of(model, learning_rates={"body": 0.1}).create_optimizer()


def test_decay_by_depth_needs_layers() -> None:
    with pytest.raises(ConfigurationError, match="`layerwise_lr_decay` needs numbered layers.*'head.weight'"):
        trainer_of(
            torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2)}), layerwise_lr_decay=0.5
        ).create_optimizer()


def test_groups_of_the_optimizers_own_exclude_them() -> None:
    model = helpers.DictClassifier()
    args = helpers.training_arguments(etude, "x", learning_rates={"head": 0.1})
    trainer = etude.Trainer(
        model, args, optimizer_cls_and_kwargs=(torch.optim.SGD, {"params": list(model.parameters())})
    )
    with pytest.raises(ConfigurationError, match="`learning_rates` has no effect"):
        trainer.create_optimizer()


def test_an_optimizer_that_is_given_excludes_them() -> None:
    model = helpers.DictClassifier()
    args = helpers.training_arguments(etude, "x", layerwise_lr_decay=0.5)
    with pytest.raises(
        ConfigurationError, match="`layerwise_lr_decay` has no effect: the optimizer in `optimizers`"
    ):
        etude.Trainer(model, args, optimizers=(torch.optim.SGD(model.parameters(), lr=0.1), None))
