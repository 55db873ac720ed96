"""Few rows that hold every pair: a covering table of options, made greedily and always the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

Row = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]  # two (axis, level)


def all_pairs(axes: Mapping[str, Sequence[str]], fits: Callable[[Row], bool]) -> list[Pair]:
    """Every pair of levels of two axes that can be together."""
    return [
        ((one, left), (two, right))
        for one, two in combinations(axes, 2)
        for left, right in product(axes[one], axes[two])
        if fits({one: left, two: right})
    ]


def pairs_of(row: Row) -> set[Pair]:
    """The pairs that a row holds, its axes in their order."""
    return set(combinations(row.items(), 2))


def covering_rows(axes: Mapping[str, Sequence[str]], fits: Callable[[Row], bool]) -> list[Row]:
    """Rows, each with a level for every axis, that together hold every pair that can be.

    Args:
        axes: names of levels for each name of an axis.
        fits: whether a row, or the part of one, can be.
    """
    missing = dict.fromkeys(all_pairs(axes, fits))
    rows = []
    while missing:
        row = dict(next(iter(missing)))
        for axis in axes:
            if axis not in row:
                row[axis] = _best_level(row, axis, axes, fits, missing)
        rows.append({axis: row[axis] for axis in axes})
        for pair in pairs_of(rows[-1]):
            missing.pop(pair, None)
    return rows


def _best_level(
    row: Row,
    axis: str,
    axes: Mapping[str, Sequence[str]],
    fits: Callable[[Row], bool],
    missing: Mapping[Pair, None],
) -> str:
    def gain(level: str) -> int:
        extended = {name: {**row, axis: level}[name] for name in axes if name in row or name == axis}
        return sum(pair in missing for pair in pairs_of(extended))

    return max((level for level in axes[axis] if fits({**row, axis: level})), key=gain)
