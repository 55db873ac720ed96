"""Is every configuration that cannot work refused, with the culprit's name and a way out?"""

from __future__ import annotations

import math
from typing import Any

import pytest

from etude import TrainingArguments
from etude.arguments import rules
from etude.errors import ConfigurationError, EtudeError, UnsupportedOptionError
from tests import helpers

STEPS = {"eval_strategy": "steps", "save_strategy": "steps"}
BEST = {"load_best_model_at_end": True, **STEPS}

# what is given, the argument that the message must name, and the way out that it must show
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"per_device_train_batch_size": 0}, "per_device_train_batch_size", "at least 1"),
    ({"per_device_train_batch_size": -4}, "per_device_train_batch_size", "at least 1"),
    ({"per_device_train_batch_size": 2.0}, "per_device_train_batch_size", "whole number"),
    ({"per_device_train_batch_size": True}, "per_device_train_batch_size", "whole number"),
    ({"per_device_train_batch_size": "8"}, "per_device_train_batch_size", "whole number"),
    ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size", "at least 1"),
    ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps", "at least 1"),
    ({"gradient_accumulation_steps": 1.5}, "gradient_accumulation_steps", "whole number"),
    ({"max_steps": 0}, "max_steps", "-1"),
    ({"max_steps": 1.5}, "max_steps", "whole number"),
    ({"num_train_epochs": 0}, "num_train_epochs", "above 0"),
    ({"num_train_epochs": -1}, "num_train_epochs", "above 0"),
    ({"num_train_epochs": math.nan}, "num_train_epochs", "above 0"),
    ({"num_train_epochs": math.inf}, "num_train_epochs", "max_steps"),
    ({"num_train_epochs": "3"}, "num_train_epochs", "number"),
    ({"learning_rate": -1e-4}, "learning_rate", "at least 0"),
    ({"learning_rate": math.nan}, "learning_rate", "number"),
    ({"learning_rate": math.inf}, "learning_rate", "number"),
    ({"learning_rate": "1e-4"}, "learning_rate", "write it as a number"),
    ({"learning_rate": None}, "learning_rate", "number"),
    ({"weight_decay": -0.1}, "weight_decay", "at least 0"),
    ({"adam_beta1": 1.0}, "adam_beta1", "[0, 1)"),
    ({"adam_beta2": -0.1}, "adam_beta2", "[0, 1)"),
    ({"adam_beta2": "0.9"}, "adam_beta2", "write it as a number"),
    ({"adam_epsilon": -1e-8}, "adam_epsilon", "at least 0"),
    ({"max_grad_norm": -1.0}, "max_grad_norm", "at least 0"),
    ({"warmup_steps": -1}, "warmup_steps", "at least 0"),
    ({"eval_delay": -1}, "eval_delay", "at least 0"),
    ({"eval_strategy": "step"}, "eval_strategy", "'steps'"),
    ({"save_strategy": "bests"}, "save_strategy", "'best'"),
    ({"logging_strategy": True}, "logging_strategy", "'no'"),
    ({"lr_scheduler_type": "liner"}, "lr_scheduler_type", "'linear'"),
    ({"on_nonfinite": "ignore"}, "on_nonfinite", "'skip'"),
    ({"optim": "adam"}, "optim", "adamw_torch"),
    ({"lr_scheduler_type": "greedy"}, "lr_scheduler_type='greedy'", "eval_strategy"),
    ({"optim": "lomo"}, "optim", "adafactor"),
    ({"learning_rates": [0.1]}, "learning_rates", "dictionary"),
    ({"learning_rates": {"head": "high"}}, "learning_rates", "at least 0"),
    ({"learning_rates": {"head(": 0.1}}, "learning_rates", "regular expression"),
    ({"layerwise_lr_decay": 1.5}, "layerwise_lr_decay", "at most 1"),
    ({"train_sampling_strategy": "randm"}, "train_sampling_strategy", "'random'"),
    ({"report_to": "wandb"}, "report_to", "log.jsonl"),
    ({"report_to": ["tensorboard", "wandb"]}, "report_to", "on_log"),
    ({"log_level": "loud"}, "log_level", "info"),
    ({"log_level_replica": "loud"}, "log_level_replica", "info"),
    ({"include_for_metrics": ["losses"]}, "include_for_metrics", "'loss'"),
    ({"bf16": True, "fp16": True}, "bf16", "choose one"),
    ({"logging_steps": 0}, "logging_steps", "above 0"),
    ({"logging_steps": -5}, "logging_steps", "default"),
    ({"logging_steps": 1.5}, "logging_steps", "whole number"),
    ({"logging_steps": math.nan}, "logging_steps", "whole number"),
    ({"logging_steps": math.inf}, "logging_steps", "whole number"),
    ({"logging_steps": "500"}, "logging_steps", "number"),
    ({"save_steps": -1}, "save_steps", "default"),
    ({"save_steps": 2.5}, "save_steps", "whole number"),
    ({"eval_strategy": "steps", "eval_steps": -1}, "eval_steps", "default"),
    ({"eval_strategy": "steps", "logging_strategy": "no", "logging_steps": 0}, "eval_steps", "above 0"),
    ({"load_best_model_at_end": True}, "load_best_model_at_end", "eval_strategy"),
    ({"load_best_model_at_end": True, "save_strategy": "no"}, "load_best_model_at_end", "eval_strategy"),
    ({"save_strategy": "best", "eval_strategy": "epoch"}, "metric_for_best_model", "'loss'"),
    ({"save_strategy": "best", "metric_for_best_model": "f1"}, "save_strategy", "eval_strategy"),
    ({"dataloader_num_workers": -1}, "dataloader_num_workers", "at least 0"),
    ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor", "dataloader_num_workers"),
    ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers", "dataloader_num_workers"),
    ({"dataloader_multiprocessing_context": "fork"}, "multiprocessing_context", "dataloader_num_workers"),
    ({"seed": "42"}, "seed", "number"),
    ({"seed": -1}, "seed", "[0, 4294967296)"),
    ({"max_steps": True}, "max_steps", "whole number"),
    ({"fp16": "False"}, "fp16", "without quotes"),
    ({"do_train": 2}, "do_train", "True or False"),
    ({"tf32": "yes"}, "tf32", "True or False"),
    ({"run_name": 7}, "run_name", "text"),
    ({"output_dir": 7}, "output_dir", "text"),
    ({"label_names": "labels"}, "label_names", "a list"),
    ({"report_to": 5}, "report_to", "a list or text"),
    ({"liger_kernel_config": "rope"}, "liger_kernel_config", "a dictionary"),
    ({"label_smoothing_factor": 1.0}, "label_smoothing_factor", "[0, 1)"),
    ({"neftune_noise_alpha": -5}, "neftune_noise_alpha", "at least 0"),
    ({"torch_empty_cache_steps": 0}, "torch_empty_cache_steps", "at least 1"),
    ({"torch_empty_cache_steps": -1}, "torch_empty_cache_steps", "at least 1"),
    ({"torch_empty_cache_steps": 2.0}, "torch_empty_cache_steps", "whole number"),
    ({"torch_empty_cache_steps": "none"}, "torch_empty_cache_steps", "whole number"),
    ({"eval_accumulation_steps": 0}, "eval_accumulation_steps", "at least 1"),
    ({"ddp_timeout": 0}, "ddp_timeout", "at least 1"),
    ({"ddp_backend": "nvcl"}, "ddp_backend", "'nccl'"),
    ({"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "threads"}, "context", "spawn"),
    ({"dataloader_num_workers": 1, "dataloader_prefetch_factor": 0}, "prefetch_factor", "at least 1"),
    ({"include_num_input_tokens_seen": "padding"}, "include_num_input_tokens_seen", "non_padding"),
    ({"activation_checkpointing_kwargs": {"every_n_layers": 0}}, "every_n_layers", "at least 1"),
    ({"activation_checkpointing_kwargs": {"every_n_layers": 1.5}}, "every_n_layers", "whole number"),
    ({"activation_checkpointing_kwargs": "use_reentrant"}, "activation_checkpointing_kwargs", "JSON"),
    ({"optim_args": "beta1"}, "optim_args", "key=value"),
    ({"optim_args": "a=1,b="}, "optim_args", "key=value"),
    ({"bf16_full_eval": True, "fp16_full_eval": True}, "bf16_full_eval", "choose one"),
    ({"lr_scheduler_kwargs": "num_cycles=2"}, "lr_scheduler_kwargs", "JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "culprit", "way_out"), BAD, ids=lambda part: str(part)[:60])
def test_what_cannot_work_is_refused(given: dict[str, Any], culprit: str, way_out: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TrainingArguments(**{"output_dir": "x", **given})
    assert isinstance(caught.value, ValueError)
    assert culprit in str(caught.value)
    assert way_out in str(caught.value)


# a value of the right kind that is not the default, for every option that is not offered
OTHER = {
    "activation_checkpointing_kwargs": {"every_n_layers": 2}, "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "torch_compile_backend": "inductor", "torch_compile_mode": "default", "liger_kernel_config": {"rope": True},
    "label_smoothing_factor": 0.1, "neftune_noise_alpha": 5.0, "torch_empty_cache_steps": 10,
    "include_num_input_tokens_seen": "all", "project": "mine", "trackio_space_id": "a/b", "trackio_bucket_id": "a/b",
    "trackio_static_space_id": "a/b",
    "accelerator_config": {"split_batches": True},
    "parallelism_config": {"tp": 2}, "fsdp": "full_shard", "fsdp_config": {"min_num_params": 1}, "deepspeed": {"a": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", rules.UNSUPPORTED)
def test_an_option_that_is_not_offered_is_refused_and_named(name: str) -> None:
    with pytest.raises(UnsupportedOptionError, match=f"`{name}=.*not supported"):
        TrainingArguments("x", **{name: OTHER.get(name, True)})


@pytest.mark.parametrize(
    "given",
    [
        {"bf16": True, "fp16": True},
        {"warmup_steps": -1},
        {"load_best_model_at_end": True},
        {"logging_steps": 0},
        {"logging_steps": 1.5},
        {"eval_strategy": "step"},
        {"eval_strategy": "steps", "logging_strategy": "no", "logging_steps": 0},
    ],
    ids=str,
)
def test_what_the_reference_refuses_is_refused_with_its_class(given: dict[str, Any]) -> None:
    classes = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib, pytest.raises(Exception, match=".") as caught:
            lib.TrainingArguments(output_dir="x", **{"use_cpu": True, **given})
        classes.append(caught.type)
    theirs, ours = classes
    assert issubclass(ours, EtudeError)
    assert issubclass(ours, theirs)


@pytest.mark.parametrize(
    "given",
    [
        {"max_steps": -1, "num_train_epochs": 0.5},
        {"max_steps": 5, "num_train_epochs": 0},
        {"learning_rate": 0},
        {"max_grad_norm": 0},
        {"logging_strategy": "no", "logging_steps": 0},
        {"save_steps": 0},
        {"logging_steps": 0.1},
        {"save_total_limit": 0},
        {**BEST, "eval_steps": 5, "save_steps": 10},
        {**BEST, "eval_steps": 0.1, "save_steps": 0.3},
        {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"},
        {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "best"},
        {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 2},
        {
            "activation_checkpointing": False,
            "debug": "",
            "fsdp": "",
            "fsdp_config": {},
            "skip_memory_metrics": True,
        },
    ],
    ids=str,
)
def test_what_can_work_is_taken(given: dict[str, Any]) -> None:
    args = TrainingArguments("x", **given)
    assert all(getattr(args, name) == value for name, value in given.items() if name != "debug")


def test_the_names_on_offer_are_those_that_the_parts_know() -> None:
    """The tables of names stand on the lowest floor, which cannot look at the parts themselves."""
    from etude.arguments import rules
    from etude.optim import factory, schedules

    assert set(rules.SCHEDULES) == set(schedules.SCHEDULES)
    assert set(rules.OPTIMIZERS) == set(factory.RECIPES)
