"""What arguments must satisfy, alone and together: one function a rule.

Every rule names the culprit and the way out, and all of them run while the arguments are built, before a model is
touched.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from etude.arguments.checks import intervals
from etude.arguments.io import plain
from etude.arguments.legacy import suggestion
from etude.errors import ConfigurationError, UnsupportedOptionError

# Known options of the reference that this version does not offer. Refused when they are set to anything but their
# default: an option that is accepted must have its effect.
UNSUPPORTED = (
    "project",
    "trackio_space_id",
    "trackio_bucket_id",
    "trackio_static_space_id",
    "enable_jit_checkpoint",
    "save_on_each_node",
    "push_to_hub",
    "hub_private_repo",
    "hub_model_id",
    "hub_strategy",
    "hub_always_push",
    "hub_revision",
    "optim_target_modules",
    "parallelism_config",
    "length_column_name",
    "fsdp",
    "fsdp_config",
    "deepspeed",
    "debug",
)
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop")
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")
SAMPLING = ("random", "sequential")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "passive")


def check(args: Any) -> None:
    """Applies every rule to normalised arguments."""
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
            hint = suggestion(value, table)
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


def known_levels(args: Any) -> None:
    """Log levels are a closed set."""
    for name in ("log_level", "log_level_replica"):
        if getattr(args, name) not in LOG_LEVELS:
            raise ConfigurationError(
                f"`{name}={getattr(args, name)!r}` is not a log level; choose one of {', '.join(LOG_LEVELS)}."
            )


def known_metric_extras(args: Any) -> None:
    """`include_for_metrics` is a closed set."""
    for extra in args.include_for_metrics:
        if extra not in ("inputs", "loss"):
            raise ConfigurationError(f"`include_for_metrics` takes 'inputs' and 'loss', not {extra!r}.")


def positive_counts(args: Any) -> None:
    """Counts that must be whole numbers above zero."""
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        value = getattr(args, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"`{name}` must be a whole number of at least 1, it is {value!r}.")
    if args.max_steps == 0 or not isinstance(args.max_steps, int):
        raise ConfigurationError(
            f"`max_steps={args.max_steps!r}` trains nothing; give a number of updates, or -1 to go by num_train_epochs."
        )
    if args.dataloader_num_workers < 0:
        raise ConfigurationError(
            f"`dataloader_num_workers` must not be negative, it is {args.dataloader_num_workers}."
        )


def number_ranges(args: Any) -> None:
    """Real-valued arguments must be finite and in range."""
    at_least_zero = (
        "learning_rate",
        "weight_decay",
        "adam_epsilon",
        "max_grad_norm",
        "warmup_steps",
        "eval_delay",
    )
    for name in at_least_zero:
        value = getattr(args, name)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            hint = " (1e-4 in quotes is text, write it as a number)" if isinstance(value, str) else ""
            raise ConfigurationError(f"`{name}` must be a number of at least 0, it is {value!r}{hint}.")
    for name in ("adam_beta1", "adam_beta2"):
        value = getattr(args, name)
        if not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ConfigurationError(f"`{name}` must be in [0, 1), it is {getattr(args, name)!r}.")
    for name in ("seed", "data_seed"):
        value = getattr(args, name)
        if value is not None and not isinstance(value, int):
            raise ConfigurationError(f"`{name}` must be a whole number, it is {value!r}.")
    epochs = args.num_train_epochs
    if args.max_steps < 0 and not (isinstance(epochs, (int, float)) and 0 < epochs < math.inf):
        raise ConfigurationError(
            f"`num_train_epochs={args.num_train_epochs!r}` trains nothing; give a number above 0, or max_steps."
        )


def one_precision(args: Any) -> None:
    """bf16 and fp16 exclude each other."""
    if args.bf16 and args.fp16:
        raise ConfigurationError(
            "`bf16` and `fp16` cannot both be on; choose one (bf16 where the hardware has it)."
        )


def loader(args: Any) -> None:
    """Options of the loading processes need loading processes."""
    if args.dataloader_num_workers > 0:
        return
    for name in (
        "dataloader_prefetch_factor",
        "dataloader_persistent_workers",
        "dataloader_multiprocessing_context",
    ):
        if getattr(args, name):
            raise ConfigurationError(f"`{name}` needs `dataloader_num_workers` of at least 1.")


RULES = (
    supported_options,
    supported_names,
    supported_trackers,
    known_levels,
    known_metric_extras,
    positive_counts,
    number_ranges,
    intervals.recurrences,
    one_precision,
    intervals.best_saving,
    intervals.best_model,
    loader,
)
