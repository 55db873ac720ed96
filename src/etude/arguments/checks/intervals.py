"""When to log, evaluate and save, and whether the best model can be kept that way."""

from __future__ import annotations

import logging
from typing import Any

from etude.core.interval import Interval, aligned, seconds
from etude.core.names import SaveStrategy
from etude.errors import ConfigurationError

logger = logging.getLogger(__name__)


def recurrences(args: Any) -> None:
    """Steps between logs, evaluations and checkpoints."""
    for what in ("logging", "eval", "save"):
        if str(getattr(args, f"{what}_strategy")) != "steps":
            continue
        if what == "eval" and not args.eval_steps:
            args.eval_steps = args.logging_steps
        name = f"{what}_steps"
        interval = Interval.parse(getattr(args, name), name, by_clock=what == "save")
        if interval.value == 0 and what != "save":
            raise ConfigurationError(
                f"`{what}_strategy='steps'` needs `{name}` above 0"
                + (" (or `logging_steps`, which it falls back to)." if what == "eval" else ".")
            )
        setattr(args, name, interval.normalized())


def stopping(args: Any) -> None:
    """The run's time, and whether signals save."""
    if args.max_time is not None:
        seconds(args.max_time, "max_time")
    if args.enable_jit_checkpoint and not args.save_on_signal:
        raise ConfigurationError(
            "`enable_jit_checkpoint` asks for a checkpoint at SIGTERM, `save_on_signal=False` for none: leave one out."
        )


def best_saving(args: Any) -> None:
    """`save_strategy='best'` needs a metric and evaluations."""
    if str(args.save_strategy) != "best":
        return
    if args.metric_for_best_model is None:
        raise ConfigurationError("`save_strategy='best'` needs `metric_for_best_model`, for example 'loss'.")
    if str(args.eval_strategy) == "no":
        raise ConfigurationError(
            "`save_strategy='best'` never saves without evaluations: set `eval_strategy`."
        )


def best_model(args: Any) -> None:
    """The best model can only be loaded if its evaluation had a checkpoint: saving follows evaluation."""
    if not args.load_best_model_at_end or args.save_strategy == "best":
        return
    if args.eval_strategy == "no":
        raise ConfigurationError(
            "`load_best_model_at_end` needs evaluations to tell which model is best: set `eval_strategy` to 'steps' or "
            "'epoch'."
        )
    before = _saving(args)
    if args.eval_strategy == "steps":
        args.save_steps = _steps_near(args)
    args.save_strategy = SaveStrategy(str(args.eval_strategy))
    if _saving(args) != before and args.world.is_main:
        logger.warning(
            "`load_best_model_at_end` needs checkpoints that fall on evaluations: it is %s now, instead of %s.",
            _saving(args),
            before,
        )


def _steps_near(args: Any) -> float | str:
    save, evaluate = Interval.of(args.save_steps), Interval.of(args.eval_steps)
    if args.save_strategy != "steps" or save.text is not None or save.is_share != evaluate.is_share:
        return evaluate.normalized()
    return Interval(aligned(save.value, evaluate.value)).normalized()


def _saving(args: Any) -> str:
    steps = f", save_steps={args.save_steps}" if args.save_strategy == "steps" else ""
    return f"save_strategy='{args.save_strategy}'{steps}"
