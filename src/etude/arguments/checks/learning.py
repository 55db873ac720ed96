"""Learning rates: of the schedule, and of parts of the model."""

from __future__ import annotations

import math
import re
from typing import Any

from etude.errors import ConfigurationError


def schedule_by_metric(args: Any) -> None:
    """Schedules that go by a metric need evaluations."""
    name = str(args.lr_scheduler_type)
    if name in ("reduce_lr_on_plateau", "greedy") and str(args.eval_strategy) == "no":
        raise ConfigurationError(
            f"`lr_scheduler_type='{name}'` requires an `eval_strategy`: it moves the learning rate by a metric."
        )


def parts_of_the_model(args: Any) -> None:
    """Learning rates by pattern are numbers, their patterns are regular expressions."""
    rates, decay = args.learning_rates, args.layerwise_lr_decay
    if rates is not None and not (isinstance(rates, dict) and all(map(_is_rate, rates.values()))):
        raise ConfigurationError(
            "`learning_rates` must be a dictionary from patterns of parameter names to learning rates of at least 0, "
            f"it is {rates!r}."
        )
    for pattern in rates or ():
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ConfigurationError(
                f"`learning_rates`: {pattern!r} is not a regular expression ({error})."
            ) from None
    if decay is not None and not (_is_rate(decay) and 0 < decay <= 1):
        raise ConfigurationError(f"`layerwise_lr_decay` must be above 0 and at most 1, it is {decay!r}.")


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
