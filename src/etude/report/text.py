"""Numbers and log rows as people read them."""

from __future__ import annotations

from typing import Any


def count(number: float) -> str:
    """A count with thousands separated: 22,713,986."""
    return f"{number:,.0f}"


def short_count(number: float) -> str:
    """A large count in millions or billions: 22.7 M."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f}"


def value(number: Any) -> str:
    """A logged value: four significant digits, small ones with an exponent."""
    if not isinstance(number, float):
        return str(number)
    return f"{number:.4g}" if number == 0 or 1e-3 <= abs(number) < 1e5 else f"{number:.3e}"


def rate_text(rate: float) -> str:
    """Something per second: 12,961 or 4.56."""
    return count(rate) if rate >= 1000 else value(float(rate))


def duration(seconds: float) -> str:
    """A time span: 42.3 s, 5 min 07 s, 3 h 12 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def row(logs: dict[str, Any], step: int, max_steps: int, longest: int = 100) -> str:
    """A logged row on one line: where, what, and how fast.

    Args:
        logs: the row.
        step: the step it belongs to.
        max_steps: steps of the whole run; 0 outside of a training.
        longest: texts longer than this are not shown.
    """
    where = f"step {step}/{max_steps}" if max_steps else "no training"
    if max_steps and logs.get("epoch") is not None:
        where += f" (epoch {logs['epoch']:.2f})"
    parts = [f"{name} {_shortened(item, longest)}" for name, item in logs.items() if not _is_about_time(name)]
    return "  ".join([where, *parts, *_speed(logs)])


def _is_about_time(name: str) -> bool:
    return name in ("epoch", "step", "total_flos") or name.endswith(("_runtime", "_per_second"))


def _speed(logs: dict[str, Any]) -> list[str]:
    runtime = [duration(v) for name, v in logs.items() if name.endswith("_runtime")]
    rate = [f"{rate_text(v)} samples/s" for name, v in logs.items() if name.endswith("_samples_per_second")]
    return [f"({', '.join(runtime + rate)})"] if runtime else []


def _shortened(item: Any, longest: int) -> str:
    if isinstance(item, str) and len(item) > longest:
        return f"<{len(item)} characters>"
    return value(item)
