"""Every error that etude raises on purpose.

    EtudeError
    ├── ConfigurationError (ValueError)      an argument, or a combination of arguments, that cannot work
    │   └── UnsupportedOptionError           a known option of the reference that this version does not offer yet
    ├── UnknownArgumentError (TypeError)     a name that no argument has
    ├── SetupError (RuntimeError)            parts that do not fit together, or calls in the wrong order
    ├── DataError (ValueError)               data sets, columns and batches
    ├── ModelOutputError (ValueError)        what the model returned cannot be used
    ├── NonFiniteError (RuntimeError)        the loss or the gradient is NaN or infinite
    ├── CheckpointError (ValueError)         a checkpoint is missing, incomplete or does not fit
    ├── HubError (OSError)                   a model hub refused, or cannot be reached
    ├── MetricError (KeyError)               a metric that was asked for is not there
    └── MissingPackageError (ImportError)    an optional package is needed and not installed

Each class also derives from the built-in exception that transformers raises in the same place, so that `except`
clauses written for it keep working.

`Preempted` (SystemExit) is no error: with it `train()` leaves, and the process ends, when it was asked to stop.
"""

from __future__ import annotations

from typing import Any


class EtudeError(Exception):
    """Base of every error raised by etude."""


class ConfigurationError(EtudeError, ValueError):
    """An argument, or a combination of arguments, cannot work."""


class UnsupportedOptionError(ConfigurationError):
    """A known option that this version does not offer yet: it is refused rather than ignored."""


class UnknownArgumentError(EtudeError, TypeError):
    """A keyword that no argument has, usually a misspelling."""


class SetupError(EtudeError, RuntimeError):
    """Parts that do not fit together, or calls in the wrong order."""


class DataError(EtudeError, ValueError):
    """A data set, a column or a batch cannot be used."""


class ModelOutputError(EtudeError, ValueError):
    """What the model returned cannot be used for training or evaluation."""


class NonFiniteError(EtudeError, RuntimeError):
    """The loss or the gradient is NaN or infinite.

    Attributes:
        step: the optimizer step (counted from 1) that would have used it.
        loss: the loss of that step's global batch.
        grad_norm: the norm of its gradient before clipping.
        samples: data set indices of that step's samples on this process, or None where they are not known.
    """

    def __init__(
        self, message: str, *, step: int, loss: float, grad_norm: float, samples: list[int] | None = None
    ) -> None:
        super().__init__(message)
        self.step = step
        self.loss = loss
        self.grad_norm = grad_norm
        self.samples = samples

    def __reduce__(self) -> Any:  # an exception with keyword arguments does not pickle by itself
        return _non_finite, (str(self), self.step, self.loss, self.grad_norm, self.samples)


class CheckpointError(EtudeError, ValueError):
    """A checkpoint is missing, incomplete, or does not fit the run."""


class HubError(EtudeError, OSError):
    """A model hub refused what was asked of it, or cannot be reached."""


class MetricError(EtudeError, KeyError):
    """A metric that was asked for is not among those computed."""

    def __str__(self) -> str:  # KeyError would print the repr, with the line breaks escaped
        return str(self.args[0]) if self.args else ""


class MissingPackageError(EtudeError, ImportError):
    """An optional package is needed for what was asked and is not installed."""


class Preempted(SystemExit):
    """Training has stopped between two steps because it was asked to, with a checkpoint to go on from.

    Attributes:
        code: the exit code of the process: 128 + the number of the signal, or 75 where `max_time` was up.
        reason: what has asked for it, and when.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code)
        self.reason = reason


def _non_finite(
    message: str, step: int, loss: float, grad_norm: float, samples: list[int] | None
) -> NonFiniteError:
    return NonFiniteError(message, step=step, loss=loss, grad_norm=grad_norm, samples=samples)
