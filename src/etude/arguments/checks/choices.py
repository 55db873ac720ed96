"""Is every name one of those that exist?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from etude.arguments.legacy import suggestion
from etude.core.names import DebugOption
from etude.errors import ConfigurationError

LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "passive")
BACKENDS = ("nccl", "gloo", "mpi", "ucc", "xccl", "hccl", "cncl", "mccl")

# argument, the names in its value, and the names that exist
Choice = tuple[str, Callable[[Any], Iterable[Any]], tuple[str, ...]]
CHOICES: tuple[Choice, ...] = (
    ("log_level", lambda value: [value], LOG_LEVELS),
    ("log_level_replica", lambda value: [value], LOG_LEVELS),
    ("include_for_metrics", list, ("inputs", "loss")),
    ("include_num_input_tokens_seen", lambda value: [value], ("all", "non_padding", "no")),
    ("mixing_stop", lambda value: [value], ("first_exhausted", "all", "steps")),
    ("debug", list, tuple(option.value for option in DebugOption)),
    ("dataloader_multiprocessing_context", lambda value: [value], ("fork", "spawn", "forkserver")),
    # also one a device, as in "cpu:gloo,cuda:nccl"
    (
        "ddp_backend",
        lambda value: [part.rpartition(":")[2] for part in value.lower().split(",")],
        BACKENDS,
    ),
)


def known_names(args: Any) -> None:
    """Names out of a closed set exist."""
    for name, names_in, known in CHOICES:
        value = getattr(args, name)
        for given in [] if value is None else names_in(value):
            if given not in known:
                hint = suggestion(str(given), known, [])
                raise ConfigurationError(
                    f"`{name}` does not know {given!r}; choose from {', '.join(known)}.{hint}"
                )
