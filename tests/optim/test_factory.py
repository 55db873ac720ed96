"""Do optimizer names and their arguments give what the reference makes of them, or an error?"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

import etude
from etude.errors import ConfigurationError, MissingPackageError, UnsupportedOptionError
from etude.optim import third_party
from etude.optim.factory import RECIPES, optimizer_class_and_options
from etude.optim.recipe import parse_options
from tests import helpers
from tests.optim import stand_ins

NUMBERS = {
    "adam_beta1": 0.8,
    "adam_beta2": 0.9,
    "adam_epsilon": 1e-6,
    "learning_rate": 0.3,
    "warmup_steps": 3,
}
LOW_RANK = {name for name, recipe in RECIPES.items() if recipe.low_rank}
LAYERWISE = {name for name in LOW_RANK if name.endswith("layerwise")}
# Values that every option can have, and their text.
TEXTS = {
    "momentum": "0.5", "dampening": "0.25", "nesterov": "True", "lr_decay": "0.5", "eps": "1e-3", "alpha": "0.5",
    "centered": "true", "use_kahan_summation": "True", "momentum_dtype": "bfloat16", "variance_dtype": "bfloat16",
    "compensation_buffer_dtype": "float32", "bf16_stochastic_round": "True", "alpha_init": "0.5", "lamb": "1.5",
    "gamma": "0.3", "grokking_signal_decay_rate": "0.2", "gradient_clipping": "0.5", "max_lr": "0.5",
    "kahan_sum": "True", "decouple_lr": "True", "weight_lr_power": "1.5", "r": "0.5", "beta1": "0.7", "beta2": "0.6",
    "beta3": "0.5", "t_alpha": "7", "t_beta3": "8", "rank": "4", "update_proj_gap": "9", "scale": "0.5",
    "proj_type": "left", "proj": "svd", "scale_type": "tensor",
}  # fmt: skip


def arguments(**fields: Any) -> Any:
    return helpers.training_arguments(etude, "x", **fields)


def both(name: str, text: str | None = None, **fields: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Class and keyword arguments under the reference and under étude."""
    found = []
    targets = {"optim_target_modules": "all-linear"} if name in LOW_RANK else {}
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            args = helpers.training_arguments(lib, "x", optim=name, optim_args=text, **{**targets, **fields})
            cls, options = lib.Trainer.get_optimizer_cls_and_kwargs(args, MODEL)
            found.append((cls, dict(options)))
    return found


class Rows(nn.Module):
    """An embedding, a norm and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 3, bias=False)])


MODEL = Rows()
PLAIN = [name for name in RECIPES if name not in LOW_RANK]


def test_every_name_of_the_reference_is_there_but_two() -> None:
    from transformers.training_args import OptimizerNames

    assert {str(name.value) for name in OptimizerNames} - set(RECIPES) == {"lomo", "adalomo"}
    for name in ("lomo", "adalomo"):
        with pytest.raises(UnsupportedOptionError, match=f"optim='{name}'"):
            arguments(optim=name)


@pytest.mark.parametrize("name", PLAIN)
def test_classes_and_arguments_are_those_of_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    # GrokAdamW is given Adam's numbers by étude only; the defaults are its own
    numbers = {"learning_rate": 0.3} if name == "grokadamw" else NUMBERS
    (their_class, theirs), (our_class, ours) = both(name, weight_decay=0.2, **numbers)
    assert issubclass(our_class, their_class) or our_class is etude.Adafactor
    assert our_class.__name__ == their_class.__name__
    assert ours == theirs


@pytest.mark.parametrize("name", [name for name in PLAIN if RECIPES[name].options])
def test_options_are_those_of_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    text = ",".join(f"{option}={TEXTS[option]}" for option in RECIPES[name].options if option != "block_size")
    theirs, ours = (options for _, options in both(name, text))
    if name.startswith("rmsprop_bnb"):  # the reference passes text on
        theirs |= {key: float(theirs[key]) for key in ("alpha", "eps", "momentum")} | {"centered": True}
    assert ours == theirs


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_option_reaches_the_optimizer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    monkeypatch.setattr("etude.optim.low_rank.refuse_what_needs_all_gradients", lambda _: None)
    targets = {"optim_target_modules": "all-linear"} if name in LOW_RANK else {}

    def made(text: str | None) -> str:
        _, options = optimizer_class_and_options(arguments(optim=name, optim_args=text, **targets), MODEL)
        for group in options.get("params", ()):
            group["params"] = len(group["params"])
        return repr(options)

    for option in RECIPES[name].options:
        assert made(f"{option}={TEXTS.get(option, '64')}") != made(None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sgd", "momentum", "'momentum' is not one"),
        ("sgd", "momentum=", "'momentum=' is not one"),
        ("sgd", "momentum:0.9", "key=value"),
        ("sgd", "momentm=0.9", "sgd has no option 'momentm'.*momentum"),
        ("sgd", "momentum=high", "momentum='high' is not a valid value"),
        ("sgd", "nesterov=perhaps", "nesterov='perhaps' is not a valid value"),
        ("adagrad", "weight_decay=0.1", "is the argument `weight_decay`"),
        ("adamw_torch", "eps=1", "adamw_torch has no option 'eps'.*none"),
        ("rmsprop", "centered=maybe", "centered='maybe'"),
        ("adamw_anyprecision", "momentum_dtype=float33", "'float33' is not a valid value"),
        ("apollo_adamw", "proj=svt", "'svt' is not a valid value"),
        ("ademamix", "t_alpha=0.5", "t_alpha='0.5'"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`optim_args`.*{message}"):
        optimizer_class_and_options(arguments(optim=name, optim_args=text))


@pytest.mark.parametrize(
    ("text", "options"),
    [(None, {}), ("", {}), ("a=1", {"a": "1"}), (" a = 1 ,b=x=y,", {"a": "1", "b": "x=y"})],
)
def test_parts_are_separated(text: str | None, options: dict[str, str]) -> None:
    assert parse_options(text) == options


@pytest.mark.parametrize("name", ["adamw_8bit", "adamw_torch_4bit", "schedule_free_adamw", "adamw_torch_xla"])
def test_a_package_that_is_missing_is_named_with_the_way_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("bitsandbytes", "torchao", "schedulefree", "torch_xla"):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.optim", None)
    with pytest.raises(MissingPackageError, match=f"optim='{name}' needs .*pip install"):
        optimizer_class_and_options(arguments(optim=name), MODEL)


def test_target_modules_are_refused_where_nobody_looks_at_them() -> None:
    with pytest.raises(ConfigurationError, match="`optim_target_modules`.*optim='sgd'"):
        optimizer_class_and_options(arguments(optim="sgd", optim_target_modules="all-linear"), MODEL)


@pytest.mark.parametrize("name", ["schedule_free_adamw", "schedule_free_sgd"])
def test_warm_up_of_schedule_free_optimizers_is_a_number_of_updates(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install(monkeypatch)
    _, options = optimizer_class_and_options(arguments(optim=name, warmup_steps=0.25, max_steps=10))
    assert options["warmup_steps"] == 3
    with pytest.raises(ConfigurationError, match="needs a number of updates.*`warmup_steps`"):
        optimizer_class_and_options(arguments(optim=name, warmup_steps=0.25))


@pytest.mark.parametrize("name", ["grokadamw", "galore_adamw"])
def test_adams_numbers_reach_classes_that_have_defaults_of_their_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install(monkeypatch)
    targets = {"optim_target_modules": "all-linear"} if name in LOW_RANK else {}
    _, options = optimizer_class_and_options(arguments(optim=name, **targets, **NUMBERS), MODEL)
    assert (options["betas"], options["eps"]) == ((0.8, 0.9), 1e-6)
    _, options = optimizer_class_and_options(arguments(optim=name, **targets), MODEL)
    assert not {"betas", "eps"} & options.keys()


def test_embeddings_keep_their_state_in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    third_party.keep_embeddings_in_32_bits(MODEL)
    assert stand_ins.Manager.overrides == [(MODEL.embedding, "weight", {"optim_bits": 32})]


@pytest.mark.parametrize(
    ("name", "told"), [("adamw_8bit", 1), ("paged_lion_8bit", 1), ("lion_32bit", 0), ("sgd", 0)]
)
def test_the_trainer_tells_8_bit_optimizers_about_embeddings(
    name: str, told: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install(monkeypatch)
    trainer = etude.Trainer(helpers.TokenTagger(), helpers.training_arguments(etude, tmp_path, optim=name))
    trainer.create_optimizer()
    assert len(stand_ins.Manager.overrides) == told


@pytest.mark.parametrize(
    ("dtype", "fused"), [(torch.float32, True), (torch.bfloat16, True), (torch.complex64, False)]
)
def test_fused_adamw_is_taken_where_pytorch_has_it(
    dtype: torch.dtype, fused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.ParameterDict({"weight": nn.Parameter(torch.ones(2, dtype=dtype))})
    cls, options = optimizer_class_and_options(arguments(optim="adamw_torch_fused"), model)
    assert cls is torch.optim.AdamW
    assert options.get("fused", False) is fused
    assert bool(caplog.records) is not fused
    if not fused:
        assert "no fused kernel for torch.complex64 on 'cpu'" in caplog.text
    cls(model.parameters(), **options)


@pytest.mark.parametrize("by_object", [False, True], ids=["ours", "theirs"])
def test_moments_that_are_kept_in_the_groups_are_resumed(by_object: bool) -> None:
    class InGroups(torch.optim.SGD):
        """As GrokAdamW: counts the steps of each parameter in its group."""

        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        group.setdefault("state", {}).setdefault(parameter, {"step": 0})["step"] += 1

    cls = third_party.resumable(InGroups)
    first, second = ([nn.Parameter(torch.ones(n + 1)) for n in range(2)] for _ in range(2))
    before, after = cls(first), cls(second)
    for parameter in first if by_object else first[1:]:
        parameter.grad = torch.ones_like(parameter)
    before.step()
    after.load_state_dict(InGroups.state_dict(before) if by_object else before.state_dict())
    for parameter in second[1:]:
        parameter.grad = torch.ones_like(parameter)
    after.step()
    assert [after.param_groups[0]["state"].get(p) for p in second] == [
        {"step": 1} if by_object else None,
        {"step": 2},
    ]
