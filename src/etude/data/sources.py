"""Do the samples of several data sets fit into one batch?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from etude.core.rng import following, undisturbed
from etude.data.columns import is_arrow_dataset
from etude.errors import DataError


def fit_together(
    sources: Mapping[str, Any], collator: Callable[[list[Any]], Any], wanted: list[str] | None
) -> None:
    """Data sets that are mixed have the same columns, or a collator that makes the same batch of any of them.

    Args:
        wanted: columns that the model takes; None: all.

    Raises:
        DataError: samples of two of them cannot come into one batch; says which, and what they have.
    """
    with following(collator), undisturbed():  # reading may draw random numbers, and training must not notice
        found = {name: _columns(source, wanted) for name, source in sources.items()}
        first = next(iter(found))
        for name, columns in found.items():
            if None not in (columns, found[first]) and columns != found[first]:
                _try(collator, sources, first, name, found, wanted)


def _columns(source: Any, wanted: list[str] | None) -> set[str] | None:
    names = source.column_names if is_arrow_dataset(source) else source[0]
    if not isinstance(names, (Mapping, list)) or (isinstance(names, list) and not is_arrow_dataset(source)):
        return None
    return {str(name) for name in names if wanted is None or name in wanted}


def _try(
    collator: Callable[[list[Any]], Any],
    sources: Mapping[str, Any],
    one: str,
    other: str,
    columns: Mapping[str, set[str] | None],
    wanted: list[str] | None,
) -> None:
    try:
        keys = [
            set(collator([_only(sources[name][0], wanted) for name in names]))
            for names in ((one, other), (other, one))
        ]
    except Exception as error:
        raise _unlike(one, other, columns) from error
    if keys[0] != keys[1]:
        raise _unlike(one, other, columns)


def _only(sample: Any, wanted: list[str] | None) -> Any:
    return {key: value for key, value in sample.items() if wanted is None or key in wanted}


def _unlike(one: str, other: str, columns: Mapping[str, set[str] | None]) -> DataError:
    listed = [", ".join(sorted(columns[name] or ())) or "none" for name in (one, other)]
    return DataError(
        f"The mixed data sets {one!r} and {other!r} have different columns, which the data collator cannot put into "
        f"one batch: {one!r} has {listed[0]}; {other!r} has {listed[1]}. Rename or add columns, or give a "
        "`data_collator` that copes."
    )
