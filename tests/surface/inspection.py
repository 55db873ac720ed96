"""What can be seen of the reference from outside, and what of it étude lacks or has otherwise."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import etude

Parameter = tuple[str, str, Any]  # name, kind, default
ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "trainer",
    "trainer_seq2seq",
    "training_args",
    "training_args_seq2seq",
    "trainer_callback",
    "trainer_utils",
    "trainer_pt_utils",
    "optimization",
    "data.data_collator",
    "hf_argparser",
)
# Public by their spelling only: nobody outside of the reference imports them.
OWN_BUSINESS = {
    "TPU and SageMaker": "get_tpu_sampler nested_xla_mesh_reduce total_processes_number",
    "how the reference concatenates": (
        "EvalLoopContainer atleast_1d expand_like nested_new_like numpy_pad_and_concatenate torch_pad_and_concatenate "
        "distributed_broadcast_scalars"
    ),
    "how the reference collates": (
        "numpy_default_data_collator torch_default_data_collator pad_without_fast_tokenizer_warning to_numpy"
    ),
    "steps of its Trainer": (
        "compare_trainer_and_checkpoint_args align_special_tokens validate_quantization_for_training safe_globals "
        "suppress_progress_bars get_dataloader_sampler is_attention_mask_causal reissue_pt_warnings unwrap_peft_model "
        "check_target_module_exists load_sharded_checkpoint set_rng_state_for_device StreamingAverage"
    ),
    "functions that become methods": (
        "metrics_format log_metrics save_metrics save_state get_num_trainable_parameters get_learning_rates "
        "get_optimizer_group"
    ),
    "stand-ins of layer-wise optimizers": "LayerWiseDummyOptimizer LayerWiseDummyScheduler",
    "parsing": "make_choice_type_function str_to_bool string_to_bool",
}
# Methods of public classes that only the reference's Trainer calls.
OWN_METHODS = {
    "AcceleratorConfig.pop",
    "TrainerMemoryTracker.cpu_mem_used",
    "TrainerMemoryTracker.derive_stage",
    "TrainerMemoryTracker.peak_monitor_func",
    "TrainerMemoryTracker.update_metrics",
    "TrainerState.init_training_references",
}
# Takes `*args, **kwargs` only to pass them on; étude names what they can be.
SPELLED_OUT = {"DataCollatorWithFlattening"}
INTERNAL = {name for names in OWN_BUSINESS.values() for name in names.split()}


@cache
def mentioned() -> frozenset[str]:
    """Every name in backticks in the list of differences."""
    text = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    return frozenset(name for chunk in re.findall(r"`([^`]+)`", text) for name in re.findall(r"\w+", chunk))


def reference(module: str) -> ModuleType:
    """A module of the reference."""
    return importlib.import_module(f"transformers.{module}")


@cache
def public_names() -> dict[str, Any]:
    """Functions, classes and enumerations that the reference's modules about training define."""
    return {
        name: value
        for module in map(reference, MODULES)
        for name, value in vars(module).items()
        if isinstance(value, (type, FunctionType)) and value.__module__ == module.__name__
        if not name.startswith("_") and name not in INTERNAL
    } | built_in_callbacks()


def built_in_callbacks() -> dict[str, type]:
    """Callbacks for trackers and notebooks, which the reference keeps elsewhere."""
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils as integrations

    return {
        name: value
        for name, value in vars(integrations).items()
        if isinstance(value, type) and issubclass(value, TrainerCallback) and value is not TrainerCallback
    }


def ours(name: str) -> Any:
    """Étude's object of that name, or None."""
    return getattr(etude, name, None)


def shared(kind: Callable[[Any], bool]) -> Iterator[tuple[str, Any, Any]]:
    """(name, the reference's, étude's) of what both have."""
    for name, theirs in public_names().items():
        if kind(theirs) and (mine := ours(name)) is not None:
            yield name, mine, theirs


def is_plain_class(value: Any) -> bool:
    """A class that is no enumeration."""
    return isinstance(value, type) and not issubclass(value, enum.Enum)


def public_methods(cls: type) -> dict[str, Any]:
    """Public functions and properties that ``cls`` has of the reference, not of PyTorch or Python."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("transformers"):
            for name, value in vars(base).items():
                if not name.startswith("_") and isinstance(
                    value, (FunctionType, property, classmethod, staticmethod)
                ):
                    found.setdefault(name, inspect.getattr_static(cls, name))
    return found


def plain(value: Any) -> Any:
    """A default as it can be compared between libraries."""
    if isinstance(value, enum.Enum):
        return value.value
    if value is inspect.Parameter.empty:
        return value
    if isinstance(value, (type, FunctionType)):
        return value.__name__
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value if type(value).__module__ == "builtins" else str(value)


def fields_of(cls: Any) -> dict[str, Any]:
    """Names and defaults of a dataclass's fields."""
    return {
        field.name: plain(
            field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        )
        for field in dataclasses.fields(cls)
    }


def parameters_of(function: Any) -> list[Parameter] | None:
    """Names, kinds and defaults of parameters; None where Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [(item.name, item.kind.name, plain(item.default)) for item in parameters]


def difference(name: str, mine: Any, theirs: Any) -> str | None:
    """How the signature of ``mine`` differs. It may ask for less: have a default, and further parameters with one."""
    have, expected = parameters_of(mine), parameters_of(theirs)
    if expected is None or have is None or _fits(have, expected):
        return None
    return f"{name}: {_shown(have)} instead of {_shown(expected)}"


def _fits(have: list[Parameter], expected: list[Parameter]) -> bool:
    required = inspect.Parameter.empty
    by_name = {item[0]: item for item in have}
    names = [name for name, _, _ in expected]
    if not by_name.keys() >= {*names} or [name for name, _, _ in have if name in names] != names:
        return False
    alike = all(
        by_name[name][1] == kind and (default is required or _same(by_name[name][2], default))
        for name, kind, default in expected
    )
    further = [item for item in have if item[0] not in names]
    positions = [[item[0] for item in side if item[1].startswith("POSITIONAL")] for side in (have, expected)]
    in_place = positions[0][: len(positions[1])] == positions[1]
    return (
        alike
        and in_place
        and all(default is not required or kind.startswith("VAR") for _, kind, default in further)
    )


def _same(have: Any, expected: Any) -> bool:
    return bool(have == expected) or (
        expected is None and have == "<factory>"
    )  # a list of its own, not one to make


def _shown(parameters: list[Parameter]) -> str:
    stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}
    empty = inspect.Parameter.empty
    return (
        f"({', '.join(stars.get(k, '') + n + ('' if d is empty else f'={d!r}') for n, k, d in parameters)})"
    )
