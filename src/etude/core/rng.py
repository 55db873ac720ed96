"""Random state: seeding it, and carrying it through a checkpoint or around an evaluation."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch


@runtime_checkable
class HasRandomState(Protocol):
    """What draws from a generator of its own, such as a collator with a seed."""

    def get_rng_state(self) -> Any:
        """The state of the generator: a tensor, or plain values."""

    def set_rng_state(self, state: Any) -> None:
        """Puts the generator back into that state."""


_followed: list[HasRandomState] = []
_batch_seed: int | None = None


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


# Kernels that take turns, and matrix products and attention that always add in the same order.
_DETERMINISTIC_ENVIRONMENT = {
    "CUDA_LAUNCH_BLOCKING": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "FLASH_ATTENTION_DETERMINISTIC": "1",
    "ASCEND_LAUNCH_BLOCKING": "1",
    "HCCL_DETERMINISTIC": "1",
}


def enable_full_determinism(seed: int, warn_only: bool = False) -> None:
    """Seeds every generator and makes PyTorch compute the same bits each time; slow.

    Call it before anything runs on a device: drivers read the environment, which it sets, when they start.

    Args:
        seed: the seed.
        warn_only: warn, rather than raise an error, where an operation has no deterministic form.
    """
    set_seed(seed)
    os.environ.update(_DETERMINISTIC_ENVIRONMENT)
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def random_state() -> dict[str, Any]:
    """A snapshot of every generator, in the layout of the reference's `rng_state.pth`."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    if _followed:
        state["own"] = [part.get_rng_state() for part in _followed]
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Puts every generator back to where `random_state` found it."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    for part, own in zip(_followed, state.get("own", []), strict=False):
        part.set_rng_state(own)
    cuda = state.get("cuda")
    if cuda is None or not torch.cuda.is_available():
        return
    if isinstance(cuda, list):  # the reference saves one state for each visible device
        torch.cuda.set_rng_state_all(cuda)
    else:
        torch.cuda.set_rng_state(cuda)


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The generators of Python, NumPy and PyTorch's CPU that are in another state, by their names."""
    names = []
    if tuple(before["python"][1]) != tuple(after["python"][1]):
        names.append("Python's")
    if before["numpy"][2] != after["numpy"][2] or not np.array_equal(before["numpy"][1], after["numpy"][1]):
        names.append("NumPy's")
    if not torch.equal(before["cpu"], after["cpu"]):
        names.append("PyTorch's")
    return names


@contextmanager
def following(*parts: Any) -> Iterator[None]:
    """While it lasts, the random state is also that of those parts which have one of their own."""
    own = [part for part in parts if isinstance(part, HasRandomState)]
    _followed.extend(own)
    try:
        yield
    finally:
        del _followed[len(_followed) - len(own) :]


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


def seed_batch(seed: int) -> None:
    """Seeds a loading process for one batch."""
    global _batch_seed
    _batch_seed = seed
    set_seed(seed)


def batch_seed() -> int | None:
    """The seed of the batch that this process is loading; None where it is not one that seeds its batches."""
    return _batch_seed


def seed_worker(worker_id: int, num_workers: int, rank: int) -> None:
    """Seeds a data-loader worker of one process so that those of other processes draw something else.

    For loaders of your own: `functools.partial(seed_worker, num_workers=..., rank=...)` as their `worker_init_fn`.
    """
    set_seed(num_workers * rank + torch.initial_seed() % 2**32)


def worker_seed(worker_id: int) -> None:
    """Seeds Python and NumPy in a data-loader worker from the seed that PyTorch gave the worker."""
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)
