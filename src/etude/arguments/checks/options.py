"""Are texts and dictionaries of options well formed, and do the options that need each other come together?"""

from __future__ import annotations

import math
from typing import Any

from etude.errors import ConfigurationError


def one_precision(args: Any) -> None:
    """bf16 and fp16 exclude each other."""
    for suffix in ("", "_full_eval"):
        if getattr(args, f"bf16{suffix}") and getattr(args, f"fp16{suffix}"):
            raise ConfigurationError(
                f"`bf16{suffix}` and `fp16{suffix}` cannot both be on; choose one (bf16 where the hardware has it)."
            )


def optimizer_text(args: Any) -> None:
    """`optim_args` is made of key=value parts."""
    for part in filter(None, (args.optim_args or "").replace(" ", "").split(",")):
        key, _, value = part.partition("=")
        if not key or not value:
            raise ConfigurationError(
                f"`optim_args` is made of key=value parts separated by commas, {part!r} is not one."
            )


def schedule_options(args: Any) -> None:
    """Options of the schedule are a dictionary."""
    if isinstance(args.lr_scheduler_kwargs, str):
        raise ConfigurationError(
            f"`lr_scheduler_kwargs` must be a dictionary or JSON text of one, it is {args.lr_scheduler_kwargs!r}."
        )


def recomputation(args: Any) -> None:
    """The options of activation checkpointing that are not PyTorch's own."""
    options = args.activation_checkpointing_kwargs
    if options is None:
        return
    if isinstance(options, str):
        raise ConfigurationError(
            f"`activation_checkpointing_kwargs` must be a dictionary or JSON text of one, it is {options!r}."
        )
    every = options.get("every_n_layers", 1)
    if type(every) is not int or every < 1:
        raise ConfigurationError(
            "`activation_checkpointing_kwargs`: every_n_layers must be a whole number of at least 1, it is "
            f"{every!r}."
        )


def mixing(args: Any) -> None:
    """The shares of a mix are numbers above 0, given in one way."""
    weights, temperature = args.mixing_weights, args.mixing_temperature
    if isinstance(weights, str) or any(not 0 < weight < math.inf for weight in (weights or {}).values()):
        raise ConfigurationError(
            "`mixing_weights` must be a dictionary, or JSON text of one, from the names of data sets to numbers "
            f"above 0, it is {weights!r}."
        )
    if temperature is not None and not temperature > 0:
        raise ConfigurationError(f"`mixing_temperature` must be a number above 0, it is {temperature!r}.")
    if weights is not None and temperature is not None:
        raise ConfigurationError(
            "`mixing_weights` and `mixing_temperature` both say the shares: give one of them."
        )


def loader(args: Any) -> None:
    """Options of the loading processes need loading processes."""
    if isinstance(args.dataloader_num_workers, str) and args.dataloader_num_workers != "auto":
        raise ConfigurationError(
            f'`dataloader_num_workers` must be a whole number or "auto", it is {args.dataloader_num_workers!r}.'
        )
    if args.dataloader_num_workers != 0:
        return
    for name in (
        "dataloader_prefetch_factor",
        "dataloader_persistent_workers",
        "dataloader_multiprocessing_context",
    ):
        if getattr(args, name):
            raise ConfigurationError(f"`{name}` needs `dataloader_num_workers` of at least 1.")


def global_batch(args: Any) -> None:
    """The size of the global batch says how many micro-batches are accumulated."""
    size = args.global_train_batch_size
    if size is None:
        return
    at_once = args.per_device_train_batch_size * args.world_size
    steps, rest = divmod(size, at_once)
    if rest or steps == 0:
        raise ConfigurationError(
            f"`global_train_batch_size={size}` is no multiple of what all processes compute at once, {at_once} samples "
            f"(`per_device_train_batch_size={args.per_device_train_batch_size}` on {args.world_size}): change one of "
            "them."
        )
    if args.gradient_accumulation_steps not in (1, steps):
        raise ConfigurationError(
            f"`global_train_batch_size={size}` means gradient_accumulation_steps={steps}, but it is "
            f"{args.gradient_accumulation_steps}: give only one of the two."
        )
    args.gradient_accumulation_steps = steps


def token_budget(args: Any) -> None:
    """Only one way to choose which samples are padded together."""
    if args.max_tokens_per_batch is not None and str(args.train_sampling_strategy) not in (
        "random",
        "sequential",
    ):
        raise ConfigurationError(
            f"`max_tokens_per_batch` groups by length itself: leave out "
            f"`train_sampling_strategy='{args.train_sampling_strategy}'`."
        )


def packing(args: Any) -> None:
    """Packing chooses itself which samples come together, and counts rows."""
    if not args.packing:
        if args.packing_length is not None:
            raise ConfigurationError("`packing_length` needs `packing=True`.")
        return
    if str(args.train_sampling_strategy) not in ("random", "sequential"):
        raise ConfigurationError(
            "`packing=True` goes by length itself: leave out "
            f"`train_sampling_strategy='{args.train_sampling_strategy}'`."
        )
    if getattr(args, "max_tokens_per_batch", None) is not None:
        raise ConfigurationError(
            "`packing` and `max_tokens_per_batch` are two ways to save padding: give only one of them."
        )
    if args.include_num_input_tokens_seen == "non_padding":
        raise ConfigurationError(
            "`include_num_input_tokens_seen='non_padding'` cannot tell padding from tokens in packed rows, which have "
            "hardly any: set it to 'all'."
        )
