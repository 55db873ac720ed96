"""Processes that have different numbers of batches, kept in step while they look at them.

What runs on a batch may meet the other processes: metrics that are gathered, parameters that are sharded. A process
that has run out of batches therefore looks at one again until the others are through, and what comes of it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from etude.data.epoch import start_at
from etude.data.loader import any_batch, has_length
from etude.errors import DataError
from etude.strategies.base import Strategy

_END = object()


def in_step(loader: Any, strategy: Strategy) -> Iterator[tuple[Any, bool]]:
    """The batches of this process, each with whether it is given only to keep in step.

    As many on every process; fewer only where a process has none at all and cannot make one.
    """
    batches = start_at(loader, 0)
    if strategy.world.size == 1:
        yield from ((inputs, False) for inputs in batches)
        return
    rounds = _rounds(loader, strategy)
    last: Any = _END
    for done in count():
        inputs = next(batches, _END)
        if inputs is _END and not _others_go_on(done, rounds, strategy):
            return
        if inputs is not _END:
            if rounds is None:
                strategy.agree([True])
            last = inputs
            yield inputs, False
            continue
        last = _any(loader) if last is _END else last
        if last is not _END:
            yield last, True


def _rounds(loader: Any, strategy: Strategy) -> int | None:
    """Batches of the process that has most; None where not all of them know."""
    lengths = strategy.gather_objects(len(loader) if has_length(loader) else None)
    return None if None in lengths else max(lengths)


def _others_go_on(done: int, rounds: int | None, strategy: Strategy) -> bool:
    return strategy.agree([False])[0] if rounds is None else done < rounds


def _any(loader: Any) -> Any:
    try:
        return any_batch(loader)
    except DataError:
        return _END
