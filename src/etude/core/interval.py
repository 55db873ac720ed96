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
