"""Are arguments plain values: the reference's names and defaults, normalised, without side effects?"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import logging
import os
import pickle
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import etude
from etude import IntervalStrategy, SaveStrategy, SchedulerType, TrainingArguments
from etude.arguments.legacy import KEPT
from etude.core.names import ParallelMode
from tests import helpers

OWN_NAMES = {
    "on_nonfinite",
    "resume_with_fresh_optimizer",
    "learning_rates",
    "layerwise_lr_decay",
    "save_in_background",
    "on_save_error",
    "save_on_signal",
    "max_time",
    "mixing_weights",
    "mixing_temperature",
    "mixing_stop",
    "max_tokens_per_batch",
    "global_train_batch_size",
    "packing",
    "packing_length",
    *KEPT,
}
OWN_DEFAULTS = {"restore_callback_states_from_checkpoint"}


def plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def defaults_of(lib: Any) -> dict[str, Any]:
    fields = [f for f in dataclasses.fields(lib.TrainingArguments) if f.init]
    made = {f.name: f.default_factory() for f in fields if f.default_factory is not dataclasses.MISSING}
    return {f.name: plain(f.default) for f in fields} | made


def test_names_are_those_of_the_reference() -> None:
    with helpers.library("transformers") as theirs, helpers.library("etude") as ours:
        assert set(defaults_of(ours)) - set(defaults_of(theirs)) == OWN_NAMES
        assert set(defaults_of(theirs)) <= set(defaults_of(ours))


def test_defaults_are_those_of_the_reference() -> None:
    with helpers.library("transformers") as theirs, helpers.library("etude") as ours:
        expected, found = defaults_of(theirs), defaults_of(ours)
    different = {name for name in expected if expected[name] != found[name]}
    assert different == OWN_DEFAULTS


def test_every_field_says_what_it_is_for() -> None:
    helps = [f.metadata["help"] for f in dataclasses.fields(TrainingArguments)]
    assert all(text.endswith(".") for text in helps)


def test_output_dir_comes_first() -> None:
    with helpers.library("transformers") as theirs:
        assert next(iter(inspect.signature(theirs.TrainingArguments).parameters)) == "output_dir"
    assert next(iter(inspect.signature(TrainingArguments).parameters)) == "output_dir"
    assert TrainingArguments("somewhere").output_dir == "somewhere"


def test_output_dir_is_expanded_and_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert TrainingArguments("~/run").output_dir == "/home/someone/run"
    assert TrainingArguments().output_dir == "trainer_output"


def test_building_changes_nothing_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
    }.items():
        monkeypatch.setenv(name, value)
    environment, state = dict(os.environ), torch.random.get_rng_state()
    TrainingArguments(str(tmp_path / "run"), seed=5, use_cpu=True)
    assert dict(os.environ) == environment
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.distributed.is_initialized()
    assert not list(tmp_path.iterdir())


def test_names_become_members() -> None:
    args = TrainingArguments(
        "x",
        eval_strategy="epoch",
        save_strategy="best",
        metric_for_best_model="f1",
        lr_scheduler_type="cosine",
    )
    assert args.eval_strategy is IntervalStrategy.EPOCH
    assert args.save_strategy is SaveStrategy.BEST
    assert args.lr_scheduler_type is SchedulerType.COSINE


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("eval_strategy", "IntervalStrategy.EPOCH"),
        ("save_strategy", "SaveStrategy.EPOCH"),
        ("lr_scheduler_type", "SchedulerType.COSINE"),
        ("optim", "OptimizerNames.ADAMW_TORCH"),
    ],
)
def test_members_of_the_references_enumerations_are_taken(name: str, member: str) -> None:
    from transformers import training_args

    enumeration, _, key = member.partition(".")
    value = getattr(training_args, enumeration)[key]
    assert str(getattr(TrainingArguments("x", **{name: value}), name)) == value.value


@pytest.mark.parametrize("metric", [None, "loss", "eval_loss", "val_loss", "accuracy", "loss_of_trust"])
def test_direction_of_the_best_metric_is_that_of_the_reference(metric: str | None, tmp_path: Path) -> None:
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            args = helpers.training_arguments(
                lib, tmp_path, load_best_model_at_end=True, save_strategy="epoch", eval_strategy="epoch",
                metric_for_best_model=metric,
            )  # fmt: skip
            found.append((args.metric_for_best_model, args.greater_is_better))
    assert found[0] == found[1]


def test_direction_that_is_given_is_kept() -> None:
    args = TrainingArguments("x", metric_for_best_model="accuracy", greater_is_better=False)
    assert args.greater_is_better is False


def test_eval_steps_fall_back_to_logging_steps() -> None:
    assert TrainingArguments("x", eval_strategy="steps", logging_steps=30).eval_steps == 30
    assert TrainingArguments("x", eval_strategy="steps", logging_steps=30, eval_steps=7).eval_steps == 7
    assert TrainingArguments("x", eval_strategy="epoch", logging_steps=30).eval_steps is None


@pytest.mark.parametrize(("given", "kept"), [(10.0, 10), (0.25, 0.25), (1, 1)])
def test_steps_are_whole_numbers_or_shares(given: float, kept: float) -> None:
    steps = TrainingArguments("x", logging_steps=given).logging_steps
    assert steps == kept
    assert type(steps) is type(kept)


def test_evaluating_in_training_sets_do_eval() -> None:
    assert TrainingArguments("x", eval_strategy="epoch").do_eval
    assert not TrainingArguments("x").do_eval


def test_without_an_accelerator_nothing_is_pinned() -> None:
    args = TrainingArguments("x", use_cpu=True)
    assert not args.dataloader_pin_memory
    assert args.device == torch.device("cpu")
    assert args.n_gpu == 0


def test_world_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    args = TrainingArguments("x", use_cpu=True, log_level="error", log_level_replica="debug")
    assert (args.world_size, args.parallel_mode) == (1, ParallelMode.NOT_PARALLEL)
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    assert (args.world_size, args.process_index, args.local_process_index) == (8, 5, 1)
    assert args.parallel_mode is ParallelMode.DISTRIBUTED
    assert not args.should_save
    assert args.get_process_log_level() == logging.DEBUG


@pytest.mark.parametrize(("everywhere", "logs"), [(True, True), (False, False)])
def test_the_first_process_of_a_machine_logs_where_asked(
    everywhere: bool, logs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "4", "LOCAL_RANK": "0", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    assert TrainingArguments("x", log_on_each_node=everywhere).should_log is logs


@pytest.mark.parametrize(("level", "number"), [("INFO", logging.INFO), ("passive", logging.WARNING)])
def test_log_level_of_the_main_process(level: str, number: int) -> None:
    assert TrainingArguments("x", log_level=level).get_process_log_level() == number


@pytest.mark.parametrize("warmup", [0, 0.05, 0.333, 1, 7, 7.9])
@pytest.mark.parametrize("total", [1, 10, 1001])
def test_warmup_is_that_of_the_reference(warmup: float, total: int, tmp_path: Path) -> None:
    with helpers.library("transformers") as theirs:
        expected = helpers.training_arguments(theirs, tmp_path, warmup_steps=warmup).get_warmup_steps(total)
    assert TrainingArguments("x", warmup_steps=warmup).get_warmup_steps(total) == expected


def test_batch_sizes_and_timeout_are_derived() -> None:
    args = TrainingArguments("x", per_device_train_batch_size=3, per_device_eval_batch_size=5, ddp_timeout=60)
    assert (args.train_batch_size, args.eval_batch_size) == (3, 5)
    assert args.ddp_timeout_delta == timedelta(minutes=1)


@pytest.mark.parametrize("given", [None, "none", ["none"], []])
def test_no_tracker_has_many_spellings(given: Any) -> None:
    assert TrainingArguments("x", report_to=given).report_to == []


def test_copies_are_equal_values() -> None:
    args = TrainingArguments("x", learning_rate=0.1, eval_strategy="steps", include_for_metrics=["loss"])
    for copied in (copy.deepcopy(args), pickle.loads(pickle.dumps(args)), dataclasses.replace(args)):
        assert copied == args
        assert copied is not args
    assert dataclasses.replace(args, seed=1) != args


def test_lists_are_not_shared_between_arguments() -> None:
    TrainingArguments("x").include_for_metrics.append("inputs")
    assert TrainingArguments("x").include_for_metrics == []


@dataclass
class LongerArguments(TrainingArguments):
    """What a user adds."""

    margin: float = dataclasses.field(default=0.5, metadata={"help": "The margin."})


def test_arguments_can_be_added_by_a_subclass() -> None:
    args = LongerArguments("x", margin=0.7, learning_rate=0.1)
    assert args.to_dict()["margin"] == 0.7
    with pytest.raises(TypeError, match="margin"):
        LongerArguments("x", margn=0.7)


def test_the_references_command_line_parser_fills_them() -> None:
    from transformers import HfArgumentParser

    line = "--output_dir out --learning_rate 0.1 --eval_strategy epoch --bf16 --label_names a b --max_steps 7"
    (args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(line.split())
    expected = TrainingArguments(
        "out", learning_rate=0.1, eval_strategy="epoch", bf16=True, label_names=["a", "b"], max_steps=7
    )
    assert args == expected


@dataclass
class TrainerLikeArguments(TrainingArguments):
    """What trainers built on this one do: other defaults and types, options of their own, own derived values."""

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*TrainingArguments._VALID_DICT_FIELDS, "model_init_kwargs"]

    learning_rate: float = dataclasses.field(default=2e-5, metadata={"help": "Another default."})
    bf16: bool | None = dataclasses.field(default=None, metadata={"help": "Another type."})
    gradient_checkpointing: bool = dataclasses.field(default=True, metadata={"help": "On."})
    model_init_kwargs: dict[str, Any] | str | None = dataclasses.field(
        default=None, metadata={"help": "Own."}
    )
    divided: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        self.bf16 = not self.fp16 if self.bf16 is None else self.bf16
        super().__post_init__()
        self.divided = self.gradient_accumulation_steps > 1


def test_trainers_can_build_on_them() -> None:
    args = TrainerLikeArguments("x", model_init_kwargs='{"dtype": "float32", "n": "3"}', use_cpu=True)
    assert (args.learning_rate, args.bf16, args.activation_checkpointing) == (2e-5, True, True)
    assert args.model_init_kwargs == {"dtype": "float32", "n": 3}
    changed = dataclasses.replace(args, gradient_accumulation_steps=2)
    assert (changed.divided, args.divided) == (True, False)
    assert pickle.loads(pickle.dumps(changed)) == copy.deepcopy(changed) == changed
    values = args.to_dict()
    assert "divided" not in values
    assert TrainerLikeArguments(**values) == args


def test_dtypes_inside_of_options_are_written_as_text() -> None:
    args = TrainerLikeArguments(
        "x", model_init_kwargs={"dtype": torch.bfloat16, "deep": {"dtype": torch.int8}}
    )
    assert json.loads(args.to_json_string())["model_init_kwargs"] == {
        "dtype": "bfloat16",
        "deep": {"dtype": "int8"},
    }


def test_a_subclass_inside_of_a_function_works() -> None:
    class Local:
        """Named in an annotation that cannot be resolved."""

    @dataclass
    class Arguments(TrainingArguments):
        """Its own."""

        own: Local | None = None

    assert Arguments("x", own=Local()).own is not None
    with pytest.raises(ValueError, match="learning_rate"):
        Arguments("x", learning_rate="1")


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("max_steps", np.int64(7), 7),
        ("learning_rate", np.float32(0.5), 0.5),
        ("learning_rate", torch.tensor(0.5), 0.5),
        ("bf16", np.bool_(True), True),
        ("bf16", 1, True),
        ("bf16", None, False),
        ("output_dir", Path("a") / "b", "a/b"),
        ("logging_dir", Path("a"), "a"),
        ("max_grad_norm", None, 0.0),
        ("include_for_metrics", "loss", ["loss"]),
        ("label_names", ("a", "b"), ("a", "b")),
        ("debug", None, []),
        ("debug", "underflow_overflow", ["underflow_overflow"]),
        ("log_level", "INFO", "info"),
        ("torch_compile_mode", "default", "default"),
    ],
)
@pytest.mark.filterwarnings("ignore:.logging_dir:FutureWarning")
def test_a_value_is_kept_in_one_form(name: str, given: Any, kept: Any) -> None:
    found = getattr(TrainingArguments(**{name: given}), name)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize("given", [{"torch_compile_backend": "eager"}, {"torch_compile_mode": "default"}, {}])
def test_options_of_compilation_ask_for_it(given: dict[str, str]) -> None:
    args = TrainingArguments("x", **given)
    assert args.torch_compile is bool(given)
    assert args.torch_compile_backend == (given.get("torch_compile_backend", "inductor") if given else None)


# --- the surface of the reference ---------------------------------------------------------------------------------

# what the reference has for itself
INSIDE = {"default_optim", "is_torch_greater_or_equal_than_2_8"}


def surface_of(cls: type) -> dict[str, Any]:
    """Public methods with their parameters, properties and attributes, and the private names that others use."""
    used = {"_n_gpu", "_setup_devices", "_no_sync_in_gradient_accumulation", "_VALID_DICT_FIELDS"}
    found: dict[str, Any] = {}
    for name in {name for name in dir(cls) if not name.startswith("_")} | used:
        value = inspect.getattr_static(cls, name, None)
        if inspect.isfunction(value):
            parameters = inspect.signature(value).parameters.values()
            found[name] = [(p.name, p.default) for p in parameters]
        else:
            found[name] = "a value"
    return found


def test_methods_and_properties_are_those_of_the_reference() -> None:
    with helpers.library("transformers") as lib:
        theirs = surface_of(lib.TrainingArguments)
    ours = surface_of(TrainingArguments) | {f.name: "a value" for f in dataclasses.fields(TrainingArguments)}
    different = {name for name in theirs if name not in INSIDE and ours.get(name) != theirs[name]}
    assert different == set()


def test_attributes_of_instances_are_those_of_the_reference() -> None:
    with helpers.library("transformers") as lib:
        theirs = vars(helpers.training_arguments(lib, "x"))
    ours = helpers.training_arguments(etude, "x")
    assert [name for name in theirs if not hasattr(ours, name) and not name.startswith("__")] == []


def test_what_differs_is_written_down() -> None:
    text = (Path(__file__).parents[2] / "docs" / "differences.md").read_text()
    assert [name for name in OWN_NAMES | OWN_DEFAULTS if f"`{name}" not in text] == []
