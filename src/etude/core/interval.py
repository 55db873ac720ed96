"""How often something happens: a number of steps, a share of the run, or a time on the clock."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from etude.errors import ConfigurationError

UNITS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}
_PART = r"\s*(\d+(?:\.\d+)?)\s*(d|h|min|m|s)\s*"


@dataclass(frozen=True)
class Interval:
    """A recurrence: `value` steps where it is at least 1, that share of the whole run where it is below.

    The reference stores both kinds in one number; this class is the one place that knows the difference.

    Attributes:
        text: a time on the clock, such as "30min", in place of steps; `value` is 0 then.
    """

    value: float
    text: str | None = None

    @classmethod
    def parse(cls, value: float | str, name: str, by_clock: bool = False) -> Interval:
        """Checks what is given for the argument `name`.

        Args:
            by_clock: it may be a time.

        Raises:
            ConfigurationError: it is negative, above 1 and not whole, or no number (and no time, where one may be).
        """
        if isinstance(value, str) and by_clock:
            if (number := as_number(value)) is None:
                seconds(value, name)
                return cls(0.0, value)
            value = number
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

    @classmethod
    def of(cls, value: float | str) -> Interval:
        """What `normalized` has returned."""
        return cls(0.0, value) if isinstance(value, str) else cls(value)

    @property
    def is_share(self) -> bool:
        """Whether the value is a share of the run."""
        return 0 < self.value < 1

    def normalized(self) -> float | str:
        """The value as the reference keeps it, an int for steps and a float for a share; a time stays text."""
        if self.text is not None:
            return self.text
        return self.value if self.is_share else int(self.value)

    def steps(self, total: int) -> int:
        """The number of steps it means in a run of `total` steps; 0 for a time."""
        return math.ceil(total * self.value) if self.is_share else int(self.value)


def as_number(text: str) -> float | None:
    """The number that a text is, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def seconds(value: float | str, name: str) -> float:
    """The seconds of a time that is given for the argument `name`: a number of them, or a text such as "1h30min".

    Raises:
        ConfigurationError: it is no time, or not above 0.
    """
    found = value if isinstance(value, (int, float)) else as_number(value)
    if found is None and re.fullmatch(f"({_PART})+", str(value)):
        found = sum(float(number) * UNITS[unit] for number, unit in re.findall(_PART, str(value)))
    if found is None or not 0 < found < math.inf:
        raise ConfigurationError(
            f"`{name}={value!r}` is no time: write for example '90s', '30min', '20h' or '1d12h'."
        )
    return float(found)


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
