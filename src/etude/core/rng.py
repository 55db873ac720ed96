"""Random state: seeding it, and carrying it through a checkpoint or around an evaluation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seeds the generators of Python, NumPy and PyTorch (all devices).

    Args:
        seed: the seed.
        deterministic: also ask PyTorch for deterministic algorithms.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        torch.use_deterministic_algorithms(True)


def random_state() -> dict[str, Any]:
    """A snapshot of every generator, in the layout of the reference's `rng_state.pth`."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Puts every generator back to where `random_state` found it."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    cuda = state.get("cuda")
    if cuda is None or not torch.cuda.is_available():
        return
    if isinstance(cuda, list):  # the reference saves one state for each visible device
        torch.cuda.set_rng_state_all(cuda)
    else:
        torch.cuda.set_rng_state(cuda)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever runs inside leaves no trace in the random state."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def seed_for(seed: int, *position: int) -> int:
    """A 63-bit seed for one place of a run (an epoch, a batch), independent of how the run got there."""
    words = np.random.SeedSequence([seed % 2**32, *position]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def worker_seed(worker_id: int) -> None:
    """Seeds Python and NumPy in a data-loader worker from the seed that PyTorch gave the worker."""
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)
