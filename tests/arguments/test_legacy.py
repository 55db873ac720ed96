"""Are older names understood with the effect that they had, and unknown ones answered with the right one?"""

from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings
from typing import Any

import pytest

from etude import TrainingArguments
from etude.arguments.legacy import KEPT, suggestion
from etude.arguments.older_names import OLDER_NAMES
from etude.errors import UnknownArgumentError, UnsupportedOptionError

# older name, a value of it, and the arguments of today that say the same
SAME: list[tuple[str, Any, dict[str, Any]]] = [
    ("evaluation_strategy", "epoch", {"eval_strategy": "epoch"}),
    ("no_cuda", True, {"use_cpu": True}),
    ("per_gpu_train_batch_size", 3, {"per_device_train_batch_size": 3}),
    ("per_gpu_eval_batch_size", 5, {"per_device_eval_batch_size": 5}),
    ("push_to_hub_token", "secret", {"hub_token": "secret"}),
    ("push_to_hub_token", None, {}),
    ("xpu_backend", "gloo", {"ddp_backend": "gloo"}),
    ("warmup_ratio", 0.25, {"warmup_steps": 0.25}),
    ("warmup_ratio", 0, {}),
    ("adafactor", True, {"optim": "adafactor"}),
    ("adafactor", False, {}),
    ("group_by_length", False, {}),
    ("include_tokens_per_second", True, {"include_num_input_tokens_seen": "all"}),
    ("include_inputs_for_metrics", True, {"include_for_metrics": ["inputs"]}),
    ("include_inputs_for_metrics", False, {}),
    ("torchdynamo", "eager", {"torch_compile": True, "torch_compile_backend": "eager"}),
    ("fsdp_min_num_params", 0, {}),
    ("dispatch_batches", False, {"accelerator_config": {"dispatch_batches": False}}),
    ("split_batches", False, {"accelerator_config": {"split_batches": False}}),
    ("fp16_backend", "auto", {}),
    ("half_precision_backend", "cuda_amp", {}),
    ("fp16_opt_level", "O1", {}),
    ("use_mps_device", True, {}),
    ("save_safetensors", True, {}),
    ("jit_mode_eval", False, {}),
    ("use_ipex", False, {}),
    ("tpu_num_cores", None, {}),
    ("tpu_metrics_debug", False, {}),
    ("past_index", -1, {}),
    ("use_legacy_prediction_loop", False, {}),
    ("mp_parameters", "", {}),
    ("sharded_ddp", "", {}),
    ("ray_scope", "last", {}),
    ("fsdp_transformer_layer_cls_to_wrap", None, {}),
]
# older name, a value that cannot be had, and the way out that the error shows
REFUSED: list[tuple[str, Any, str]] = [
    ("save_safetensors", False, "torch.save"),
    ("fp16_backend", "apex", "fp16=True"),
    ("half_precision_backend", "apex", "bf16=True"),
    ("jit_mode_eval", True, "torch_compile=True"),
    ("use_ipex", True, "torch_compile=True"),
    ("tpu_num_cores", 8, "not supported"),
    ("tpu_metrics_debug", True, "not supported"),
    ("past_index", 2, "compute_loss"),
    ("use_legacy_prediction_loop", True, "evaluation_loop"),
    ("mp_parameters", "partitions=2", "not supported"),
    ("sharded_ddp", "zero_dp_3", "fsdp"),
    ("ray_scope", "all", "RAY_SCOPE"),
    ("warmup_ratio", 1.5, "warmup_steps"),
    ("dispatch_batches", True, "dispatch_batches"),
]
# what becomes of them depends on options that have tests of their own
ELSEWHERE = {"push_to_hub_model_id", "push_to_hub_organization"}


def older(**given: Any) -> TrainingArguments:
    with pytest.warns(FutureWarning):
        return TrainingArguments("x", **given)


def test_every_older_name_is_tried_here() -> None:
    assert {name for name, *_ in [*SAME, *REFUSED]} | ELSEWHERE == set(OLDER_NAMES)


@pytest.mark.parametrize(("name", "value", "today"), SAME, ids=lambda part: str(part)[:40])
def test_an_older_name_says_the_same_with_one_warning(name: str, value: Any, today: dict[str, Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        args = TrainingArguments("x", **{name: value})
    assert args == TrainingArguments("x", **today)
    assert [w.category for w in caught] == [FutureWarning]
    assert f"`{name}`" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("name", "value", "way_out"), REFUSED, ids=lambda part: str(part)[:40])
def test_what_cannot_be_had_any_more_is_refused_with_a_way_out(name: str, value: Any, way_out: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with pytest.raises(ValueError, match=name) as caught:
            TrainingArguments("x", **{name: value})
    assert way_out in str(caught.value)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"push_to_hub_model_id": "model"}, "model"),
        ({"push_to_hub_model_id": "model", "push_to_hub_organization": "we"}, "we/model"),
        ({"push_to_hub_organization": "we"}, "we/run"),
    ],
)
def test_names_on_the_hub_are_put_together(
    given: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etude.arguments import rules

    monkeypatch.setattr(rules, "UNSUPPORTED", ())
    with pytest.warns(FutureWarning):
        assert TrainingArguments(output_dir="somewhere/run", **given).hub_model_id == name


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"evaluation_strategy": "epoch", "eval_strategy": "steps"}, "eval_strategy"),
        ({"adafactor": True, "optim": "sgd"}, "optim"),
        ({"no_cuda": False, "use_cpu": True}, "use_cpu"),
    ],
)
def test_older_and_newer_name_together_are_an_error(given: dict[str, Any], kept: str) -> None:
    with pytest.raises(UnknownArgumentError, match=f"give only `{kept}`"):
        TrainingArguments("x", **given)


@pytest.mark.parametrize(("ratio", "steps"), [(0.1, 100), (1, 1000), (1.0, 1000), (0.0, 0)])
def test_a_share_of_warmup_keeps_its_meaning(ratio: float, steps: int) -> None:
    assert older(warmup_ratio=ratio).get_warmup_steps(1000) == steps


def test_updates_of_warmup_win_over_their_share_as_they_did() -> None:
    assert older(warmup_ratio=0.5, warmup_steps=7).get_warmup_steps(1000) == 7


def test_several_older_names_are_joined() -> None:
    args = older(dispatch_batches=False, split_batches=False, accelerator_config={"even_batches": False})
    assert (args.accelerator_config.dispatch_batches, args.accelerator_config.even_batches) == (False, False)
    args = older(include_inputs_for_metrics=True, include_for_metrics=["loss"])
    assert args.include_for_metrics == ["loss", "inputs"]


@pytest.mark.parametrize(("name", "value"), [("logging_dir", "logs"), ("overwrite_output_dir", True)])
def test_what_scripts_read_is_kept(name: str, value: Any) -> None:
    args = older(**{name: value})
    for copied in (
        args,
        copy.copy(args),
        pickle.loads(pickle.dumps(args)),
        dataclasses.replace(args, seed=1),
    ):
        assert getattr(copied, name) == value
    assert set(KEPT) == {"logging_dir", "overwrite_output_dir"}


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("evaluation_strategy", {"eval_strategy": "epoch"}, "epoch"),
        ("per_gpu_train_batch_size", {"per_device_train_batch_size": 3}, 3),
        ("no_cuda", {"use_cpu": True}, True),
        ("warmup_ratio", {"warmup_steps": 0.1}, 0.1),
        ("warmup_ratio", {"warmup_steps": 10}, 0.0),
        ("adafactor", {"optim": "adafactor"}, True),
        ("group_by_length", {}, False),
        ("include_inputs_for_metrics", {"include_for_metrics": ["inputs"]}, True),
        ("include_tokens_per_second", {}, False),
        ("past_index", {}, -1),
        ("half_precision_backend", {}, "auto"),
        ("overwrite_output_dir", {}, False),
        ("split_batches", {}, False),
        ("fsdp_min_num_params", {}, 0),
    ],
)
def test_older_names_can_be_read(name: str, given: dict[str, Any], value: Any) -> None:
    assert getattr(TrainingArguments("x", **given), name) == value


@pytest.mark.parametrize("name", OLDER_NAMES)
def test_reading_an_older_name_warns_of_nothing(name: str) -> None:
    assert hasattr(TrainingArguments("x"), name) == (name != "save_safetensors")


@pytest.mark.parametrize("name", ["save_safetensors", "tokenizer", "lerning_rate", "__deepcopy__"])
def test_names_that_tell_the_version_or_do_not_exist_are_absent(name: str) -> None:
    args = TrainingArguments("x")
    assert not hasattr(args, name)
    with pytest.raises(AttributeError, match=f"'TrainingArguments' object has no attribute '{name}'"):
        getattr(args, name)


@dataclasses.dataclass
class WithOwnField(TrainingArguments):
    """Has a field of the name of an older one."""

    group_by_length: bool = dataclasses.field(default=True, metadata={"help": "Its own."})


def test_a_field_of_a_subclass_wins_over_an_older_name() -> None:
    assert WithOwnField("x").group_by_length
    assert not WithOwnField("x", group_by_length=False).group_by_length
    assert WithOwnField("x").train_sampling_strategy == "random"


@pytest.mark.parametrize("value", [True, False])
def test_the_older_name_of_activation_checkpointing_is_taken_and_says_the_same(value: bool) -> None:
    args = older(gradient_checkpointing=value)
    assert args.activation_checkpointing is args.gradient_checkpointing is value
    changed = dataclasses.replace(args, activation_checkpointing=not value)  # without a warning
    assert changed.activation_checkpointing is changed.gradient_checkpointing is not value


def test_options_of_activation_checkpointing_have_an_older_name_too() -> None:
    options = {"use_reentrant": False}
    args = older(gradient_checkpointing_kwargs=options)
    assert args.activation_checkpointing_kwargs == args.gradient_checkpointing_kwargs == options


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("learning_rat", "learning_rate"),
        ("per_device_batch_size", "per_device_train_batch_size"),
        ("evalutaion_strategy", "evaluation_strategy"),
        ("gradient_acumulation_steps", "gradient_accumulation_steps"),
        ("num_epochs", "num_train_epochs"),
    ],
)
def test_a_misspelling_is_answered_with_the_name(misspelt: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"'{misspelt}'.*'{meant}'"):
        TrainingArguments("x", **{misspelt: 1})


def test_a_name_that_resembles_none_is_answered_without_a_guess() -> None:
    with pytest.raises(UnknownArgumentError, match=r"'zzz'\.$"):
        TrainingArguments("x", zzz=1)


def test_an_entry_cannot_be_added_to_a_file() -> None:
    with pytest.raises(UnknownArgumentError, match="`fsdp_min_num_params`.*`fsdp_config`"):
        TrainingArguments("x", fsdp_min_num_params=7, fsdp_config="fsdp.json")


def test_suggestions_are_the_closest_three() -> None:
    assert suggestion("abcd", ["abce", "abcf", "abcg", "abch"]).count(" or ") == 2
    assert suggestion("abcd", ["xyz"]) == ""


def test_errors_are_of_the_class_that_they_would_be_of_today() -> None:
    with pytest.raises(UnsupportedOptionError):
        TrainingArguments("x", fp16_backend="apex")
