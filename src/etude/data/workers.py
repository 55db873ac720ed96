"""What a process that loads data does when it starts."""

from __future__ import annotations

import os

from etude.core.rng import worker_seed


def begin_training_worker(worker_id: int) -> None:
    """For loaders of training data: Python and NumPy are seeded as PyTorch is."""
    begin_worker(worker_id)
    worker_seed(worker_id)


def begin_worker(worker_id: int) -> None:
    """Leaves the group of processes that a Ctrl-C, `timeout` or a shell sends its signals to.

    A training that is asked to stop needs its loading processes to finish its step; it ends them itself. Should it die,
    they notice that.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
