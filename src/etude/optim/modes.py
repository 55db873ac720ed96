"""Schedule-free optimizers have modes: they train at other weights than those that are to be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def train_mode(optimizer: Any) -> None:
    """Puts the weights that are trained into the model, where the optimizer has modes."""
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()


def eval_mode(optimizer: Any) -> None:
    """Puts the weights to be used into the model, where the optimizer has modes."""
    if callable(getattr(optimizer, "eval", None)):
        optimizer.eval()


@contextmanager
def weights_to_use(optimizer: Any) -> Iterator[None]:
    """Within it the model has the weights to be used; afterwards those that are trained."""
    eval_mode(optimizer)
    try:
        yield
    finally:
        train_mode(optimizer)
