"""What code written for the reference asks `TrainingArguments` about accelerate, which etude does without."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from etude.core.world import World
from etude.errors import ConfigurationError, UnsupportedOptionError


@dataclass
class AcceleratorConfig:
    """The options of `accelerator_config`, under accelerate's names.

    Attributes:
        split_batches, dispatch_batches: must stay off: every process reads its own share of the data.
        even_batches: for loaders that a subclass prepares itself: as many batches on every process.
        use_seedable_sampler: must stay on: the order of samples follows from the seed.
        non_blocking: no effect: copies to an accelerator are never waited for.
        gradient_accumulation_kwargs: its "num_steps" is `gradient_accumulation_steps`.
        use_configured_state: no effect: there is no state to configure.
    """

    split_batches: bool = False
    dispatch_batches: bool | None = None
    even_batches: bool = True
    use_seedable_sampler: bool = True
    non_blocking: bool = False
    gradient_accumulation_kwargs: dict[str, Any] | None = None
    use_configured_state: bool = False

    @classmethod
    def parse(cls, value: Any) -> AcceleratorConfig:
        """From an object of this or accelerate's class, a dictionary, the path of a JSON file, or None.

        Raises:
            ConfigurationError: an option does not exist.
            UnsupportedOptionError: an option has a value that etude does not offer.
        """
        if isinstance(value, (str, Path)):
            value = _from_file(value)
        if isinstance(value, type):
            raise ConfigurationError(
                f"`accelerator_config` is the class {value.__name__}: give an instance, {value.__name__}()."
            )
        options = {} if value is None else value if isinstance(value, dict) else vars(value)
        known = [f.name for f in dataclasses.fields(cls)]
        if unknown := sorted(set(options) - set(known)):
            raise ConfigurationError(
                f"`accelerator_config` has no option {', '.join(unknown)}; its options are {', '.join(known)}."
            )
        config = value if isinstance(value, cls) else cls(**options)
        config._check()
        return config

    @classmethod
    def from_json_file(cls, json_file: str | Path) -> AcceleratorConfig:
        """From the path of a JSON file; raises what `parse` does."""
        return cls.parse(json_file)

    def _check(self) -> None:
        for name, offered in (
            ("split_batches", False),
            ("dispatch_batches", False),
            ("use_seedable_sampler", True),
        ):
            value = getattr(self, name)
            if value is not None and value != offered:
                raise UnsupportedOptionError(
                    f"`accelerator_config={{{name!r}: {value}}}` is not supported by etude, whose processes read their "
                    f"own share of one seeded order; leave it out."
                )
        accumulation = self.gradient_accumulation_kwargs or {}
        # "adjust_scheduler" and "sync_with_dataloader" have no effect in the reference's Trainer either
        if accumulation.get("sync_each_batch"):
            raise UnsupportedOptionError(
                "`accelerator_config`: sync_each_batch=True is not supported by etude, which exchanges gradients once "
                "an update; leave it out."
            )

    def accumulation_steps(self, given: int) -> int:
        """`gradient_accumulation_steps`, which may be said here instead of by the argument, `given`.

        Raises:
            ConfigurationError: both say it, and they differ.
        """
        steps = (self.gradient_accumulation_kwargs or {}).get("num_steps", given)
        if given not in (1, steps):
            raise ConfigurationError(
                f"`accelerator_config` has num_steps={steps}, but `gradient_accumulation_steps` is {given}: give only "
                "`gradient_accumulation_steps`."
            )
        return int(steps)

    def to_dict(self) -> dict[str, Any]:
        """The options as a dictionary."""
        return dataclasses.asdict(self)


def _from_file(path: str | Path) -> dict[str, Any]:
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigurationError(f"`accelerator_config`: cannot read JSON from {path} ({error}).") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"`accelerator_config`: {path} does not hold a dictionary of options.")
    return values


@dataclass(frozen=True)
class DistributedState:
    """The part of accelerate's `PartialState` that arguments are asked for.

    Attributes:
        distributed_type: accelerate's name: "NO", "MULTI_GPU", "MULTI_CPU".
    """

    device: torch.device
    distributed_type: str
    num_processes: int
    process_index: int
    local_process_index: int
    is_main_process: bool
    is_local_main_process: bool


class AccelerateArguments:
    """Attributes of arguments that belong to accelerate or to engines that it drives.

    Attributes:
        deepspeed_plugin, hf_deepspeed_config, fsdp_plugin_args: None: those are not in use.
    """

    deepspeed_plugin: Any = None
    hf_deepspeed_config: Any = None
    fsdp_plugin_args: Any = None
    device: Any
    world: Any
    bf16: bool
    fp16: bool

    @property
    def mixed_precision(self) -> str:
        """The precision as accelerate calls it: "no", "bf16" or "fp16"."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "no"

    @property
    def distributed_state(self) -> Any:
        """Which process this is; or what was set, as the object of accelerate itself."""
        return self.__dict__.get("distributed_state") or distributed_state(self.device, self.world)

    @distributed_state.setter
    def distributed_state(self, state: Any) -> None:
        self.__dict__["distributed_state"] = state


def distributed_state(device: torch.device, world: World) -> DistributedState:
    """What a process is to say about itself."""
    several = "MULTI_CPU" if device.type == "cpu" else "MULTI_GPU"
    return DistributedState(
        device=device,
        distributed_type=several if world.size > 1 else "NO",
        num_processes=world.size,
        process_index=world.rank,
        local_process_index=world.local_rank,
        is_main_process=world.is_main,
        is_local_main_process=world.is_local_main,
    )
