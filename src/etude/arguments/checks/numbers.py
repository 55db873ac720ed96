"""Is every number in its range?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from etude.errors import ConfigurationError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` on, up to but without `high`."""

    low: float
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value < self.high

    def __str__(self) -> str:
        return f"of at least {self.low}" if self.high == math.inf else f"in [{self.low}, {self.high})"


RANGES = {
    "per_device_train_batch_size": Range(1),
    "per_device_eval_batch_size": Range(1),
    "gradient_accumulation_steps": Range(1),
    "packing_length": Range(1),
    "dataloader_num_workers": Range(0),
    "dataloader_prefetch_factor": Range(1),
    "eval_accumulation_steps": Range(1),
    "max_tokens_per_batch": Range(1),
    "global_train_batch_size": Range(1),
    "torch_empty_cache_steps": Range(1),
    "ddp_timeout": Range(1),
    "ddp_bucket_cap_mb": Range(1),
    "learning_rate": Range(0),
    "weight_decay": Range(0),
    "adam_beta1": Range(0, 1),
    "adam_beta2": Range(0, 1),
    "adam_epsilon": Range(0),
    "max_grad_norm": Range(0),
    "warmup_steps": Range(0),
    "eval_delay": Range(0),
    "label_smoothing_factor": Range(0, 1),
    "neftune_noise_alpha": Range(0),
    "seed": Range(0, 2**32),  # NumPy's generator takes no other
}


def in_range(args: Any) -> None:
    """Numbers are finite and in their range; None, where a field allows it, is in any."""
    for name, allowed in RANGES.items():
        value = getattr(args, name)
        if value is None or isinstance(value, str):
            continue  # text stands for a number that is found later
        if not (math.isfinite(value) and value in allowed):
            raise ConfigurationError(f"`{name}` must be a number {allowed}, it is {value!r}.")


def length(args: Any) -> None:
    """Something must be trained."""
    if args.max_steps == 0:
        raise ConfigurationError(
            "`max_steps=0` trains nothing; give a number of updates, or -1 to go by num_train_epochs."
        )
    if args.max_steps < 0 and not 0 < args.num_train_epochs < math.inf:
        raise ConfigurationError(
            f"`num_train_epochs={args.num_train_epochs!r}` trains nothing; give a number above 0, or max_steps."
        )
