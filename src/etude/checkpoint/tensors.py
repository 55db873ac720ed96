"""What `torch.save` wrote, read without running anything that is in the file."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from etude.errors import CheckpointError


def load_tensors(path: Path, mapped: bool = False) -> Any:
    """Tensors, on the host, and plain values in any nesting.

    Args:
        mapped: the tensors are windows on the file, for those who copy them at once.

    Raises:
        CheckpointError: the file holds anything else, or cannot be read.
    """
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            mapped = mapped and zipfile.is_zipfile(path)  # as PyTorch writes since 1.6
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds {_others(path)}: only running code that the file names could bring that back, which is "
            "never done. If you trust the file, load it with torch.load(..., weights_only=False) and save what is in "
            "it as tensors and plain values."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _others(path: Path) -> str:
    """What else is in the file, as it calls it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a file of before PyTorch 1.6, or worse
        names = []
    numpy = {name for _, name in _numpy_globals()}
    return ", ".join(sorted(set(names) - numpy)) or "more than tensors and plain values"


def _numpy_globals() -> list[Any]:
    """What NumPy's random state is made of, as `torch.load` and files of any version of NumPy call it."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    kind = type(np.dtype(np.uint32))
    return [
        (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # before NumPy 2
        (np.ndarray, "numpy.ndarray"),
        (np.dtype, "numpy.dtype"),
        (kind, f"{kind.__module__}.{kind.__qualname__}"),
    ]
