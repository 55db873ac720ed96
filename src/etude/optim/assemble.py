"""What the arguments of a run say about parameter groups and the schedule."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn
from torch.optim import Optimizer

from etude.errors import ConfigurationError
from etude.optim.rates import learning_rates
from etude.optim.schedules import BY_METRIC, get_scheduler

logger = logging.getLogger(__name__)
NO_WARMUP = ("constant", *BY_METRIC)


def chosen_rates(args: Any, model: nn.Module) -> dict[str, float] | None:
    """The learning rate of each trained parameter by name, or None where all have the same."""
    if not args.learning_rates and args.layerwise_lr_decay is None:
        return None
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return (
        learning_rates(names, args.learning_rate, args.learning_rates, args.layerwise_lr_decay)
        if names
        else {}
    )


def own_groups(args: Any, who: str) -> None:
    """Learning rates of their own cannot be had where the parameter groups are not made here.

    Raises:
        ConfigurationError: the arguments ask for them.
    """
    for name in ("learning_rates", "layerwise_lr_decay"):
        if getattr(args, name):
            raise ConfigurationError(
                f"`{name}` has no effect: {who} groups the parameters itself. Leave it out."
            )


def schedule_of(args: Any, optimizer: Optimizer, num_training_steps: int) -> Any:
    """The schedule that the arguments name, for a run of that many updates."""
    name, options = str(args.lr_scheduler_type), dict(args.lr_scheduler_kwargs or {})
    warmup = args.get_warmup_steps(num_training_steps)
    if name in BY_METRIC:
        options.setdefault("mode", "max" if args.greater_is_better else "min")
    if warmup and name in NO_WARMUP and not str(args.optim).startswith("schedule_free"):
        logger.warning(
            "lr_scheduler_type='%s' has no warm-up, so `warmup_steps=%s` has no effect%s.",
            name, args.warmup_steps, "; 'constant_with_warmup' has one" if name == "constant" else "",
        )  # fmt: skip
    return get_scheduler(name, optimizer, warmup, num_training_steps, options)
