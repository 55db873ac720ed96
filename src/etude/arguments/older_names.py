"""The arguments of transformers 4 that have another name today, or none."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.errors import ConfigurationError, UnknownArgumentError, UnsupportedOptionError

# From the value of an older argument, and whatever else was given, to the arguments that say the same today.
Today = Callable[[Any, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class OlderName:
    """What became of an argument.

    Attributes:
        kind: type of its values, for command lines.
        note: how the sentence goes on after the name in the warning.
        today: what it means now. None stands for "not given" and never gets there.
        read: the answer to reading it from arguments of today; None: there is no such attribute.
    """

    kind: type
    note: str
    today: Today
    read: Callable[[Any], Any] | None


def renamed(new: str, kind: type = str) -> OlderName:
    """The same argument under the name `new`."""

    def today(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        return only_given_once(new, value, given)

    return OlderName(
        kind, f"is now called `{new}`; please rename it.", today, lambda args: getattr(args, new)
    )


def switch(new: str, value: Any, read: Callable[[Any], bool]) -> OlderName:
    """A truth value that now is one of the values of `new`."""

    def today(on: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        return only_given_once(new, value, given) if on else {}

    return OlderName(bool, f"is now `{new}={value!r}`; please say it that way.", today, read)


def entry(new: str, key: str, kind: type, default: Any) -> OlderName:
    """An argument that now is an entry of the dictionary `new`."""

    def today(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        if value == default:
            return {}
        others = given.get(new) or {}
        if not isinstance(others, Mapping):
            raise UnknownArgumentError(f"{key!r} belongs into `{new}`: write it there, among the others.")
        return {new: {**others, key: value}}

    def read(args: Any) -> Any:
        entries = getattr(args, new)
        return entries.get(key, default) if isinstance(entries, Mapping) else getattr(entries, key, default)

    return OlderName(kind, f"is now the entry {key!r} of `{new}`; please write it there.", today, read)


def without_effect(kind: type, *neutral: Any, way_out: str, readable: bool = True) -> OlderName:
    """An argument that does nothing: its `neutral` values are taken, any other is refused with the way out."""

    def today(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        if value not in neutral:
            raise UnsupportedOptionError(f"{value!r} cannot be had any more: {way_out}.")
        return {}

    read = (lambda args: neutral[0]) if readable else None
    return OlderName(kind, "has no effect any more; please leave it out.", today, read)


def only_given_once(new: str, value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """`{new: value}`, if `new` itself is not given as well."""
    if new in given:
        raise UnknownArgumentError(f"it is the older name of `{new}`: give only `{new}`.")
    return {new: value}


def _warmup(value: float, given: Mapping[str, Any]) -> dict[str, Any]:
    if not 0 <= value <= 1:
        raise ConfigurationError(f"a share must be in [0, 1], it is {value!r}: give `warmup_steps`.")
    if "warmup_steps" in given:
        return {}  # as in version 4
    # `warmup_steps=1` would be one update: the whole run is the largest number below
    return {"warmup_steps": math.nextafter(1.0, 0.0) if value == 1 else value}


def _read_warmup(args: Any) -> float:
    return args.warmup_steps if args.warmup_steps < 1 else 0.0


def _inputs_for_metrics(value: bool, given: Mapping[str, Any]) -> dict[str, Any]:
    others = given.get("include_for_metrics") or []
    return {"include_for_metrics": list(dict.fromkeys([*others, "inputs"]))} if value else {}


def _dynamo(value: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"torch_compile": True, **only_given_once("torch_compile_backend", value, given)}


def _organization(value: str, given: Mapping[str, Any]) -> dict[str, Any]:
    name = given.get("push_to_hub_model_id") or os.path.basename(given.get("output_dir") or "trainer_output")
    return {"hub_model_id": f"{value}/{name}"}


def _hub_name(value: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("push_to_hub_organization") is not None:
        return {}  # both are put together there
    return only_given_once("hub_model_id", value, given)


_APEX = "mixed precision is PyTorch's own, with `fp16=True` or `bf16=True`"
_SAGEMAKER = "training on SageMaker's model parallelism is not supported"

OLDER_NAMES: dict[str, OlderName] = {
    "evaluation_strategy": renamed("eval_strategy"),
    "per_gpu_train_batch_size": renamed("per_device_train_batch_size", int),
    "per_gpu_eval_batch_size": renamed("per_device_eval_batch_size", int),
    "no_cuda": renamed("use_cpu", bool),
    "push_to_hub_token": renamed("hub_token"),
    "push_to_hub_model_id": OlderName(
        str, "is now called `hub_model_id`; please rename it.", _hub_name, lambda args: args.hub_model_id
    ),
    "push_to_hub_organization": OlderName(
        str, "is now the first part of `hub_model_id`, as in 'name/model'.", _organization, lambda args: None
    ),
    "xpu_backend": renamed("ddp_backend"),
    "warmup_ratio": OlderName(
        float, "is now a `warmup_steps` below 1, which wins where both are given.", _warmup, _read_warmup
    ),
    "adafactor": switch("optim", "adafactor", lambda args: bool(args.optim == "adafactor")),
    "group_by_length": switch(
        "train_sampling_strategy",
        "group_by_length",
        lambda args: bool(args.train_sampling_strategy == "group_by_length"),
    ),
    "include_tokens_per_second": switch(
        "include_num_input_tokens_seen",
        "all",
        lambda args: args.include_num_input_tokens_seen not in (False, "no"),
    ),
    "include_inputs_for_metrics": OlderName(
        bool,
        "is now `include_for_metrics=['inputs']`; please say it that way.",
        _inputs_for_metrics,
        lambda args: "inputs" in args.include_for_metrics,
    ),
    "torchdynamo": OlderName(
        str, "is now called `torch_compile_backend`; please rename it.", _dynamo, lambda args: None
    ),
    "fsdp_min_num_params": entry("fsdp_config", "min_num_params", int, 0),
    "fsdp_transformer_layer_cls_to_wrap": entry("fsdp_config", "transformer_layer_cls_to_wrap", str, None),
    "dispatch_batches": entry("accelerator_config", "dispatch_batches", bool, None),
    "split_batches": entry("accelerator_config", "split_batches", bool, None),
    # nothing reads these, in version 4 either or any more
    "use_mps_device": without_effect(bool, False, True, way_out="devices are found by themselves"),
    # not readable: code asks whether it is there to find out which version this is
    "save_safetensors": without_effect(
        bool,
        True,
        readable=False,
        way_out="weights are always written as safetensors; for a pickle, call torch.save yourself",
    ),
    "fp16_backend": without_effect(str, "auto", "amp", "cuda_amp", "cpu_amp", way_out=_APEX),
    "half_precision_backend": without_effect(str, "auto", "amp", "cuda_amp", "cpu_amp", way_out=_APEX),
    "fp16_opt_level": without_effect(str, "O1", "O0", "O2", "O3", way_out=_APEX),  # Apex's, refused above
    "jit_mode_eval": without_effect(bool, False, way_out="compile the model with `torch_compile=True`"),
    "use_ipex": without_effect(bool, False, way_out="PyTorch has its own support; use `torch_compile=True`"),
    "tpu_num_cores": without_effect(int, None, way_out="TPUs are not supported"),
    "tpu_metrics_debug": without_effect(bool, False, way_out="TPUs are not supported"),
    "past_index": without_effect(int, -1, way_out="carry state between batches in a `compute_loss` of yours"),
    "use_legacy_prediction_loop": without_effect(bool, False, way_out="override `evaluation_loop`"),
    "mp_parameters": without_effect(str, "", way_out=_SAGEMAKER),
    "sharded_ddp": without_effect(str, "", False, [], way_out="shard the model with `fsdp`"),
    "ray_scope": without_effect(str, "last", way_out="set the environment variable RAY_SCOPE"),
}
