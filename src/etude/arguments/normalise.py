"""From the ways in which a value can be written to the one in which it is kept."""

from __future__ import annotations

import os
import re
from enum import Enum
from typing import Any

from etude.arguments import io
from etude.arguments.accelerate import AcceleratorConfig
from etude.arguments.legacy import ALIASES
from etude.core.names import (
    HubStrategy,
    IntervalStrategy,
    NonFinitePolicy,
    OptimizerNames,
    SaveErrorPolicy,
    SaveStrategy,
    SchedulerType,
)
from etude.errors import ConfigurationError

ENUMERATIONS: dict[str, type[Enum]] = {
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
    "hub_strategy": HubStrategy,
    "lr_scheduler_type": SchedulerType,
    "optim": OptimizerNames,
    "on_nonfinite": NonFinitePolicy,
    "on_save_error": SaveErrorPolicy,
}


def plain_values(args: Any) -> None:
    """Defaults, lists and dictionaries in their one form."""
    if args.output_dir is None:
        args.output_dir = "trainer_output"
    if isinstance(args.output_dir, os.PathLike):
        args.output_dir = _path(os.fspath(args.output_dir))
    if isinstance(args.output_dir, str):
        args.output_dir = os.path.expanduser(args.output_dir)
    io.parse_json_fields(args)
    args.report_to = _names(args.report_to, nothing="none")
    args.include_for_metrics = _names(args.include_for_metrics)
    args.debug = _names(args.debug.split() if isinstance(args.debug, str) else args.debug)
    if isinstance(args.include_num_input_tokens_seen, bool):
        args.include_num_input_tokens_seen = "all" if args.include_num_input_tokens_seen else "no"
    if args.max_grad_norm is None:
        args.max_grad_norm = 0.0
    _forget_masks(args)
    _mirror_aliases(args)


def _path(path: str) -> str:
    """A path that was given as one.

    Raises:
        ConfigurationError: it was made of a URL, of which a path keeps one of two slashes.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path):
        raise ConfigurationError(f"`output_dir`: a path cannot hold a URL ({path!r}): give it as text.")
    return path


def _names(value: Any, nothing: str = "") -> Any:
    """One name, several or none as a list of names; what is neither is left for the check of types."""
    if value is None or isinstance(value, str):
        value = [value or nothing]
    return (
        [io.plain(name) for name in value if name != nothing] if isinstance(value, (list, tuple)) else value
    )


def _forget_masks(args: Any) -> None:
    """A token that `to_dict` has masked is not a token."""
    for name in vars(args):
        if name.endswith("_token") and getattr(args, name) == io.mask(name):
            setattr(args, name, None)


def _mirror_aliases(args: Any) -> None:
    """The name of today decides, where it is given; the older name then says the same."""
    for old, new in ALIASES.items():
        if getattr(args, new) is None:
            setattr(args, new, getattr(args, old))
        setattr(args, old, getattr(args, new))
    if args.activation_checkpointing is None:
        args.activation_checkpointing = args.gradient_checkpointing = False


def members(args: Any) -> None:
    """Names out of an enumeration become its members.

    Raises:
        ConfigurationError: there is no such member.
    """
    for name, enumeration in ENUMERATIONS.items():
        try:
            setattr(args, name, enumeration(io.plain(getattr(args, name))))
        except ValueError as error:
            raise ConfigurationError(f"`{name}`: {error}.") from None


def derived_values(args: Any) -> None:
    """What follows from other arguments."""
    args.log_level, args.log_level_replica = args.log_level.lower(), args.log_level_replica.lower()
    args.do_eval = args.do_eval or args.eval_strategy != IntervalStrategy.NO
    by_metric = args.lr_scheduler_type in (SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY)
    if (args.load_best_model_at_end or by_metric) and args.metric_for_best_model is None:
        args.metric_for_best_model = "loss"
    if args.greater_is_better is None and args.metric_for_best_model is not None:
        args.greater_is_better = not args.metric_for_best_model.endswith("loss")
    if args.use_cpu:
        args.dataloader_pin_memory = False
    args.num_train_epochs = float(args.num_train_epochs)
    if args.torch_compile_backend is not None or args.torch_compile_mode is not None:
        args.torch_compile = True
    if args.torch_compile and args.torch_compile_backend is None:
        args.torch_compile_backend = "inductor"
    args.accelerator_config = AcceleratorConfig.parse(args.accelerator_config)
    args.gradient_accumulation_steps = args.accelerator_config.accumulation_steps(
        args.gradient_accumulation_steps
    )
