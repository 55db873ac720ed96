"""Are texts and dictionaries of options well formed, and do the options that need each other come together?"""

from __future__ import annotations

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
