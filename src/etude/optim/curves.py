"""Learning-rate schedules as factors of the base learning rate: plain functions of the update.

The curves are those of the reference, so that a run keeps its numbers. `warmup` and `total` count updates.
"""

from __future__ import annotations

import math

SHAPES = ("linear", "cosine", "1-sqrt")  # of the slopes of `warmup_stable_decay`


def _warmup(step: int, warmup: int) -> float:
    return step / max(1, warmup)


def _progress(step: int, warmup: int, total: int) -> float:
    """Share of the updates after warm-up that are done."""
    return (step - warmup) / max(1, total - warmup)


def _wave(num_cycles: float, progress: float) -> float:
    """A cosine that begins at 1 and is at 0 after half a cycle."""
    return 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress))


def constant(step: int) -> float:
    """Always the base learning rate."""
    return 1.0


def constant_with_warmup(step: int, *, warmup: int) -> float:
    """Up in a line, then the base learning rate."""
    return _warmup(step, warmup) if step < warmup else 1.0


def linear(step: int, *, warmup: int, total: int) -> float:
    """Up in a line while warming up, then down in a line to 0 at the last update."""
    if step < warmup:
        return _warmup(step, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def cosine(step: int, *, warmup: int, total: int, num_cycles: float, lowest: float = 0.0) -> float:
    """Up in a line, then along a cosine between 1 and `lowest`; half a cycle ends there."""
    if step < warmup:
        return _warmup(step, warmup)
    return max(0.0, _wave(num_cycles, _progress(step, warmup, total)) * (1.0 - lowest) + lowest)


def cosine_with_restarts(step: int, *, warmup: int, total: int, num_cycles: float) -> float:
    """Up in a line, then `num_cycles` times down along half a cosine, and back up at once."""
    if step < warmup:
        return _warmup(step, warmup)
    progress = _progress(step, warmup, total)
    return 0.0 if progress >= 1.0 else max(0.0, _wave(0.5, (num_cycles * progress) % 1.0))


def cosine_from(
    step: int, *, warmup: int, total: int, num_cycles: float, lowest: float, first: float | None
) -> float:
    """Up in a line from `first` (a step above 0 if None), then along a cosine that counts the update in progress."""
    if step < warmup:
        if first is None:
            return (step + 1) / max(1, warmup)
        return first + (1.0 - first) * step / max(1, warmup - 1)
    return max(0.0, _wave(num_cycles, (step - warmup + 1) / max(1, total - warmup)) * (1.0 - lowest) + lowest)


def polynomial(step: int, *, warmup: int, total: int, base: float, end: float, power: float) -> float:
    """Up in a line, then from `base` down to `end` with a power of the updates left."""
    if step < warmup:
        return _warmup(step, warmup)
    left = 0.0 if step > total else 1.0 - _progress(step, warmup, total)
    return ((base - end) * math.pow(left, power) + end) / base


def inverse_sqrt(step: int, *, warmup: int, timescale: int) -> float:
    """Up in a line, then down with the inverse square root of the updates after it."""
    if step < warmup:
        return _warmup(step, warmup)
    return 1.0 / math.sqrt((step - warmup + timescale) / timescale)


def warmup_stable_decay(
    step: int,
    *,
    warmup: int,
    stable: int,
    decay: int,
    warmup_type: str,
    decay_type: str,
    lowest: float,
    num_cycles: float,
) -> float:
    """Up from `lowest`, level for `stable` updates, down to `lowest` over `decay` updates, and there it stays."""
    if step < warmup:
        factor = _rise(warmup_type, _warmup(step, warmup))
    elif step < warmup + stable:
        return 1.0
    elif step < warmup + stable + decay:
        factor = _fall(decay_type, (step - warmup - stable) / max(1, decay), num_cycles)
    else:
        return lowest
    return max(0.0, factor * (1.0 - lowest) + lowest)


def _rise(shape: str, progress: float) -> float:
    if shape == "cosine":
        return 0.5 * (1.0 - math.cos(math.pi * progress))
    return progress if shape == "linear" else 1.0 - math.sqrt(1.0 - progress)


def _fall(shape: str, progress: float, num_cycles: float) -> float:
    if shape == "cosine":
        return _wave(num_cycles, progress)
    return 1.0 - (progress if shape == "linear" else math.sqrt(progress))
