"""Names that arguments had in transformers 4, and what to say about names that no argument has."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection
from typing import Any

from etude.errors import UnknownArgumentError

# Only plain renamings; an older argument whose meaning changed is not accepted silently.
RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "warmup_ratio": "warmup_steps",  # a number below 1 is a share of the run under the new name too
    "push_to_hub_model_id": "hub_model_id",
    "push_to_hub_token": "hub_token",
}


def translate(given: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Keyword arguments under their names of today.

    Args:
        given: what the caller passed.
        known: the names that exist.

    Raises:
        UnknownArgumentError: a name that neither exists nor existed; says which one was probably meant.
    """
    result = {name: value for name, value in given.items() if name in known}
    for old, value in given.items():
        if old in known:
            continue
        new = RENAMED.get(old)
        if new is None:
            raise UnknownArgumentError(f"There is no training argument {old!r}.{suggestion(old, known)}")
        if new in result:
            raise UnknownArgumentError(f"`{old}` is the older name of `{new}`: give only `{new}`.")
        warnings.warn(f"`{old}` is now called `{new}`; please rename it.", FutureWarning, stacklevel=3)
        result[new] = value
    return result


def suggestion(name: str, known: Collection[str]) -> str:
    """The end of an error sentence: the known names that look most like `name`."""
    close = difflib.get_close_matches(name, [*known, *RENAMED], n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(candidate) for candidate in close)}?" if close else ""
