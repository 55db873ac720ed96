"""What arguments must satisfy, alone and together: one function a rule.

Every rule names the culprit and the way out, and all of them run while the arguments are built, before a model is
touched.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from etude.arguments import normalise
from etude.arguments.checks import choices, intervals, kinds, learning, numbers, options
from etude.arguments.io import plain
from etude.arguments.legacy import suggestion
from etude.core.names import DebugOption, OptimizerNames, SchedulerType
from etude.errors import UnsupportedOptionError

# Known options of the reference that this version does not offer. Refused when they are set to anything but their
# default: an option that is accepted must have its effect.
UNSUPPORTED = (
    "project",
    "trackio_space_id",
    "trackio_bucket_id",
    "trackio_static_space_id",
    "parallelism_config",
    "fsdp",
    "fsdp_config",
    "deepspeed",
)
# LOMO moves the weights in a backward pass of its own, and keeps its state out of checkpoints.
OPTIMIZERS = tuple(name.value for name in OptimizerNames if not name.value.endswith("lomo"))
SCHEDULES = tuple(name.value for name in SchedulerType)
SAMPLING = ("random", "sequential", "group_by_length", "batch_rebalance")


def settle(args: Any) -> None:
    """Brings arguments into their one form and applies every rule.

    Raises:
        ConfigurationError: a value or a combination cannot work.
    """
    normalise.plain_values(args)
    kinds.values_of_their_kind(args)
    normalise.members(args)
    normalise.derived_values(args)
    for rule in RULES:
        rule(args)


def supported_options(args: Any) -> None:
    """Options that are not offered yet must be at their defaults."""
    defaults = {f.name: f.default for f in dataclasses.fields(args)}
    for name in UNSUPPORTED:
        value = getattr(args, name)
        default = defaults[name]
        if value != default and (default is True or value not in (None, False, "", [], {})):
            raise UnsupportedOptionError(
                f"`{name}={value!r}` is not supported by this version of etude; leave `{name}` at its default."
            )


def supported_debugging(args: Any) -> None:
    """There are no TPUs whose metrics could be printed."""
    if DebugOption.TPU_METRICS_DEBUG in args.debug:
        raise UnsupportedOptionError(
            "`debug='tpu_metrics_debug'` is not supported by this version of etude, which does not run on TPUs; it "
            "offers 'underflow_overflow'."
        )


def supported_names(args: Any) -> None:
    """Names out of a table must be in the part of the table that is offered."""
    tables = {
        "optim": OPTIMIZERS,
        "lr_scheduler_type": SCHEDULES,
        "train_sampling_strategy": SAMPLING,
    }
    for name, table in tables.items():
        value = str(plain(getattr(args, name)))
        if value not in table:
            hint = suggestion(value, table, [])
            raise UnsupportedOptionError(
                f"`{name}={value!r}` is not supported by this version of etude; it offers {', '.join(table)}.{hint}"
            )


def supported_trackers(args: Any) -> None:
    """Only the local log is offered so far."""
    if args.report_to:
        raise UnsupportedOptionError(
            f"`report_to={args.report_to!r}` is not supported by this version of etude; every row is in "
            "`output_dir/log.jsonl`, and a TrainerCallback with `on_log` can pass it on."
        )


RULES = (
    supported_options,
    supported_debugging,
    supported_names,
    supported_trackers,
    choices.known_names,
    numbers.in_range,
    numbers.length,
    options.one_precision,
    options.optimizer_text,
    options.schedule_options,
    options.recomputation,
    options.loader,
    options.mixing,
    options.packing,
    options.global_batch,
    options.token_budget,
    intervals.recurrences,
    intervals.stopping,
    learning.schedule_by_metric,
    learning.parts_of_the_model,
    intervals.best_saving,
    intervals.best_model,
)
