"""GreedyLR: a learning rate that goes up while a metric improves and down while it does not (arXiv:2512.14527)."""

from __future__ import annotations

import logging
import math
from typing import Any

from torch.optim import Optimizer

from etude.errors import ConfigurationError

logger = logging.getLogger(__name__)


class StreamingAverage:
    """Mean of the last `window_size` values."""

    def __init__(self, window_size: int) -> None:
        self.window_size = window_size
        self.values: list[float] = []
        self.sum = 0.0

    def streamavg(self, value: float) -> float:
        """Takes a value and returns the mean."""
        self.values.append(value)
        self.sum += value
        if len(self.values) > self.window_size:
            self.sum -= self.values.pop(0)
        return self.sum / len(self.values)

    def state_dict(self) -> dict[str, Any]:
        return {"window_size": self.window_size, "values": list(self.values), "sum": self.sum}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.window_size = state_dict["window_size"]
        self.values, self.sum = list(state_dict["values"]), state_dict["sum"]


class GreedyLR:
    """Multiplies the learning rate by `factor` after too many bad values of a metric, divides after as many good ones.

    Call `step(metric)` after each evaluation; a Trainer does.

    Args:
        optimizer: whose learning rates are moved.
        mode: "min" or "max": which values of the metric are better.
        factor: below 1.
        patience: how many bad (good) values in a row leave the learning rate as it is.
        threshold: by how much a value must be better to count as better.
        threshold_mode: "abs", or "rel" for a share of the best value.
        cooldown: values to ignore after the learning rate went down.
        warmup: values to ignore after it went up.
        min_lr, max_lr: bounds, one for all parameter groups or a list.
        eps: smaller changes are not made.
        verbose: print every change.
        smooth: look at the mean of the last `window_size` values.
        reset_start: start anew after that many reductions at the lower bound.

    Raises:
        ConfigurationError: a value that cannot work.
    """

    _STATE = (
        "factor", "min_lrs", "max_lrs", "patience", "verbose", "cooldown", "warmup", "cooldown_counter",
        "warmup_counter", "mode", "threshold", "threshold_mode", "best", "num_bad_epochs", "num_good_epochs", "eps",
        "last_epoch", "smooth", "window_size", "reset_start", "reset_start_original", "_last_lr", "_init_lrs",
    )  # fmt: skip

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: str = "abs",
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: float | list[float] = 1e-3,
        max_lr: float | list[float] = 1.0,
        eps: float = 1e-8,
        verbose: bool = False,
        smooth: bool = False,
        window_size: int = 50,
        reset_start: int = 500,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"GreedyLR moves the learning rates of an Optimizer, not of a {type(optimizer).__name__}."
            )
        if factor >= 1.0:
            raise ConfigurationError(f"GreedyLR: `factor` should be < 1.0, it is {factor}.")
        if mode not in ("min", "max"):
            raise ConfigurationError(f"GreedyLR: mode {mode!r} is unknown; choose 'min' or 'max'.")
        if threshold_mode not in ("rel", "abs"):
            raise ConfigurationError(
                f"GreedyLR: threshold mode {threshold_mode!r} is unknown; choose 'rel' or 'abs'."
            )
        self.optimizer = optimizer
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.warmup, self.eps, self.verbose = cooldown, warmup, eps, verbose
        self.smooth, self.window_size = smooth, window_size
        self.reset_start_original = reset_start
        self.min_lrs = self._for_each_group("min_lr", min_lr)
        self.max_lrs = self._for_each_group("max_lr", max_lr)
        self.last_epoch = 0
        self._init_lrs = self._rates()
        self._last_lr = list(self._init_lrs)
        self._begin()
        if all(rate < lowest for rate, lowest in zip(self._init_lrs, self.min_lrs, strict=True)):
            logger.warning(
                "GreedyLR: min_lr=%s is above the learning rate %s, which can therefore never go down.",
                self.min_lrs[0], self._init_lrs[0],
            )  # fmt: skip

    def _begin(self) -> None:
        """The counters of a start."""
        self.best = math.inf if self.mode == "min" else -math.inf
        self.num_bad_epochs = self.num_good_epochs = 0
        self.cooldown_counter = self.warmup_counter = 0
        self.reset_start = self.reset_start_original
        self._streaming_avg = StreamingAverage(self.window_size) if self.smooth else None

    def step(self, metrics: float, epoch: int | None = None) -> None:
        """Takes a value of the metric, and moves the learning rates where it is time to.

        Args:
            metrics: the value.
            epoch: its number, for messages; counted if not given.
        """
        value = float(metrics)
        if self._streaming_avg is not None:
            value = self._streaming_avg.streamavg(value)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.cooldown_counter > 0 or self.warmup_counter > 0:
            self._wait()
        else:
            self._count(value)
        self._last_lr = self._rates()

    def _wait(self) -> None:
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
        else:
            self.warmup_counter -= 1
        self.num_bad_epochs = self.num_good_epochs = 0

    def _count(self, value: float) -> None:
        if self.is_better(value, self.best):
            self.best = value
            self.num_good_epochs, self.num_bad_epochs = self.num_good_epochs + 1, 0
        else:
            self.num_good_epochs, self.num_bad_epochs = 0, self.num_bad_epochs + 1
        if self.num_good_epochs > self.patience:
            self._increase_lr()
            self.warmup_counter, self.num_good_epochs = self.warmup, 0
        elif self.num_bad_epochs > self.patience:
            self._reduce_lr()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def is_better(self, current: float, best: float) -> bool:
        """Whether a value is better than the best so far, by more than the threshold."""
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            return sign * current > sign * best * (1.0 + sign * self.threshold)
        return sign * current > sign * best + self.threshold

    def _reduce_lr(self) -> None:
        self._move([max(r * self.factor, low) for r, low in zip(self._rates(), self.min_lrs, strict=True)])
        if any(rate > lowest for rate, lowest in zip(self._rates(), self.min_lrs, strict=True)):
            return
        self.reset_start -= 1
        if self.reset_start <= 0:
            self._reset()

    def _increase_lr(self) -> None:
        highest = zip(self._rates(), self.max_lrs, strict=True)
        self._move([min(rate / self.factor, limit) for rate, limit in highest], up=True)
        self.reset_start = self.reset_start_original

    def _move(self, rates: list[float], up: bool = False) -> None:
        """Sets the learning rates whose change is in the right direction and large enough."""
        for index, (group, rate) in enumerate(zip(self.optimizer.param_groups, rates, strict=True)):
            change = rate - float(group["lr"])
            if (change if up else -change) > self.eps:
                group["lr"] = rate
                self._say(f"Epoch {self.last_epoch}: learning rate of group {index} is now {rate:.4e}.")

    def _reset(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._init_lrs, strict=True):
            group["lr"] = rate
        self._begin()
        self._say("The schedule starts anew.")

    def _say(self, text: str) -> None:
        if self.verbose:
            print(text)

    def _rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def _for_each_group(self, name: str, value: float | list[float]) -> list[float]:
        count = len(self.optimizer.param_groups)
        if not isinstance(value, (list, tuple)):
            return [value] * count
        if len(value) != count:
            raise ConfigurationError(
                f"GreedyLR: `{name}` needs one value for each of the {count} parameter groups, it has {len(value)}."
            )
        return list(value)

    def get_last_lr(self) -> list[float]:
        """The learning rates of all groups after the last step."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later run needs to go on."""
        state = {name: getattr(self, name) for name in self._STATE}
        if self._streaming_avg is not None:
            state["_streaming_avg"] = self._streaming_avg.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that state back, with the learning rates."""
        for name in self._STATE:
            setattr(self, name, state_dict.get(name, getattr(self, name)))
        if "_streaming_avg" in state_dict:
            self._streaming_avg = StreamingAverage(self.window_size)
            self._streaming_avg.load_state_dict(state_dict["_streaming_avg"])
        if "_last_lr" in state_dict:
            for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
                group["lr"] = rate
