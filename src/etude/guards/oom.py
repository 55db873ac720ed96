"""`auto_find_batch_size`: a training that does not fit into memory starts again with smaller micro-batches."""

from __future__ import annotations

import copy
import functools
import gc
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from etude.core.rng import random_state, restore_random_state
from etude.core.state import ExportableState
from etude.errors import EtudeError, SetupError

logger = logging.getLogger(__name__)

_TEXTS = ("out of memory", "can't allocate memory", "CUDNN_STATUS_NOT_SUPPORTED", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left."""
    if isinstance(error, EtudeError):
        return False
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def find_executable_batch_size(
    function: Callable[..., Any] | None = None,
    starting_batch_size: int = 128,
    auto_find_batch_size: bool = False,
) -> Callable[..., Any]:
    """Makes a function of `batch_size` one that is called again with nine tenths of it while memory runs out.

    Args:
        function: takes `batch_size` as its first argument; a decorator is returned if not given.
        auto_find_batch_size: otherwise it is called once, with `starting_batch_size`.

    Raises:
        SetupError: (when called) a batch of one sample does not fit either.
    """
    if function is None:
        return functools.partial(
            find_executable_batch_size,
            starting_batch_size=starting_batch_size,
            auto_find_batch_size=auto_find_batch_size,
        )
    if not auto_find_batch_size:
        return functools.partial(function, batch_size=starting_batch_size)

    @functools.wraps(function)
    def found(*args: Any, **kwargs: Any) -> Any:
        size = starting_batch_size
        while size > 0:
            try:
                return function(size, *args, **kwargs)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # only here, when the error and with it the tensors of its frames are gone
            free_memory()
            smaller = int(size * 0.9)
            logger.warning("Out of memory with batches of %d: starting again with %d.", size, smaller)
            size = smaller
        raise SetupError(
            "No batch size fits into memory, not even 1: use a smaller model, shorter inputs, "
            "`activation_checkpointing`, or more devices."
        )

    return found


def free_memory() -> None:
    """Gives memory that nothing uses any more back to the device."""
    gc.collect()
    empty_device_cache()


def empty_device_cache() -> None:
    """Gives memory that PyTorch keeps for later back to the device."""
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


class Beginning:
    """Everything that a training changes, as it was when the training began. The weights wait on the host.

    Args:
        model: the model.
        parts: optimizer, schedule: what else has a `state_dict`.
        callbacks: those that can export their state are put back as well.
    """

    def __init__(self, model: nn.Module, parts: list[Any], callbacks: list[Any]) -> None:
        self._model = model
        self._weights = {
            name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()
        }
        self._parts = [(part, copy.deepcopy(part.state_dict())) for part in parts]
        exportable = [callback for callback in callbacks if isinstance(callback, ExportableState)]
        self._callbacks = [(callback, copy.deepcopy(callback.state())) for callback in exportable]
        self._random = random_state()

    def restore(self) -> None:
        """Makes it so again."""
        self._model.load_state_dict(self._weights)
        for part, state in self._parts:
            part.load_state_dict(copy.deepcopy(state))
        for callback, exported in self._callbacks:
            for name, value in copy.deepcopy(exported["attributes"]).items():
                setattr(callback, name, value)
        restore_random_state(self._random)
