"""How often something happens: a number of steps, or a share of the run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from etude.errors import ConfigurationError


@dataclass(frozen=True)
class Interval:
    """A recurrence: `value` steps where it is at least 1, that share of the whole run where it is below.

    The reference stores both kinds in one number; this class is the one place that knows the difference.
    """

    value: float

    @classmethod
    def parse(cls, value: float, name: str) -> Interval:
        """Checks a number given for the argument `name`.

        Raises:
            ConfigurationError: it is negative, or above 1 and not whole.
        """
        if not isinstance(value, (int, float)):
            raise ConfigurationError(f"`{name}` must be a number, it is {value!r}.")
        if value < 0:
            raise ConfigurationError(
                f"`{name}` must not be negative, it is {value}; leave it out for the default."
            )
        if not math.isfinite(value) or (value > 1 and value != int(value)):
            raise ConfigurationError(
                f"`{name}={value}` is neither a whole number of steps nor a share of the run below 1."
            )
        return cls(float(value))

    @property
    def is_share(self) -> bool:
        """Whether the value is a share of the run."""
        return 0 < self.value < 1

    def normalized(self) -> float:
        """The value as the reference keeps it: an int for steps, a float for a share."""
        return self.value if self.is_share else int(self.value)

    def steps(self, total: int) -> int:
        """The number of steps it means in a run of `total` steps."""
        return math.ceil(total * self.value) if self.is_share else int(self.value)


def aligned(save: float, evaluate: float) -> float:
    """The interval between checkpoints, near `save`, at which the best evaluation can have a checkpoint.

    It can where every checkpoint falls on an evaluation, or every evaluation on a checkpoint. Otherwise the result is
    the largest multiple of `evaluate` that is not above `save`, so that checkpoints become more frequent, not rarer;
    at least `evaluate` itself. Both count steps, or both are shares of the run.
    """
    scale = 1_000_000 if 0 < evaluate < 1 else 1  # shares are compared as whole millionths
    saves, evaluations = round(save * scale), max(1, round(evaluate * scale))
    if saves > 0 and 0 in (saves % evaluations, evaluations % saves):
        return save
    multiple = max(1, saves // evaluations) * evaluations
    return multiple / scale if scale > 1 else multiple
