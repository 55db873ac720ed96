"""Helpers that scripts import from inside the reference, under the names they have there."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from etude.checkpoint import files
from etude.checkpoint.store import remove, same_folder
from etude.core import nested
from etude.core.names import IntervalStrategy, ParallelMode
from etude.core.nested import batch_size as find_batch_size
from etude.core.nested import detach as nested_detach
from etude.core.nested import to_numpy as nested_numpify
from etude.core.signature import count_parameters as get_model_param_count
from etude.data import columns
from etude.errors import SetupError

__all__ = [
    "OPTIMIZER_NAME",
    "PREFIX_CHECKPOINT_DIR",
    "SCALER_NAME",
    "SCHEDULER_NAME",
    "TRAINER_STATE_NAME",
    "TRAINING_ARGS_NAME",
    "EvaluationStrategy",
    "RemoveColumnsCollator",
    "denumpify_detensorize",
    "distributed_concat",
    "find_batch_size",
    "get_model_param_count",
    "get_parameter_names",
    "is_main_process",
    "nested_concat",
    "nested_detach",
    "nested_gather",
    "nested_numpify",
    "nested_truncate",
    "number_of_arguments",
    "rotate_checkpoints",
    "sort_checkpoints",
    "torch_distributed_zero_first",
]

PREFIX_CHECKPOINT_DIR = files.FOLDER_PREFIX
TRAINER_STATE_NAME = files.TRAINER_STATE
TRAINING_ARGS_NAME = files.TRAINING_ARGS
OPTIMIZER_NAME = files.OPTIMIZER
SCHEDULER_NAME = files.SCHEDULER
SCALER_NAME = files.SCALER
EvaluationStrategy = IntervalStrategy  # its name in older versions


# Functions and models


def number_of_arguments(func: Callable[..., Any]) -> int:
    """How many arguments a function still takes, also where it is a partial one."""
    if isinstance(func, functools.partial):
        return len(inspect.signature(func.func).parameters) - len(func.args) - len(func.keywords)
    return len(inspect.signature(func).parameters)


def get_parameter_names(
    model: nn.Module,
    forbidden_layer_types: list[type],
    forbidden_layer_names: list[str] | None = None,
) -> list[str]:
    """Names of the parameters outside of some layers.

    Args:
        model: whose parameters.
        forbidden_layer_types: classes of layers to leave out with all that is in them.
        forbidden_layer_names: regular expressions; what they are found in, in lower case, is left out.
    """
    patterns = [re.compile(pattern) for pattern in forbidden_layer_names or ()]
    names: list[str] = []
    for name, child in model.named_children():
        if not isinstance(child, tuple(forbidden_layer_types)):
            inner = get_parameter_names(child, forbidden_layer_types, forbidden_layer_names)
            names += [f"{name}.{parameter}" for parameter in inner]
    names += model._parameters
    return [name for name in names if not any(pattern.search(name.lower()) for pattern in patterns)]


class RemoveColumnsCollator(columns.RemoveColumnsCollator):
    """Leaves out what a model does not take of each sample before collating.

    Args:
        data_collator: makes a batch of what is left.
        signature_columns: the keys to keep.
        logger: given, it is said once which keys are left out.
        model_name: accepted for compatibility.
        description: what the data is for, in that message.
    """

    def __init__(
        self,
        data_collator: Callable[[list[Any]], Any],
        signature_columns: list[str],
        logger: Any = None,
        model_name: str | None = None,
        description: str | None = None,
    ) -> None:
        super().__init__(data_collator, signature_columns, description or "data", tell=logger is not None)


# Tensors and arrays in any nesting


def nested_concat(tensors: Any, new_tensors: Any, padding_index: int = -100) -> Any:
    """Joins two batches along the first dimension; where the second one differs, the narrower is filled up.

    Raises:
        TypeError: there is something else than tensors and arrays in it.
    """
    if isinstance(tensors, torch.Tensor):
        return _joined(tensors, new_tensors, padding_index)
    if isinstance(tensors, np.ndarray):
        return nested.concatenate([tensors, new_tensors], padding_index)
    join = functools.partial(nested_concat, padding_index=padding_index)
    if isinstance(tensors, tuple) and hasattr(tensors, "_fields"):
        return type(tensors)(*map(join, tensors, new_tensors))
    if isinstance(tensors, (list, tuple)):
        return type(tensors)(map(join, tensors, new_tensors))
    if isinstance(tensors, Mapping):
        return type(tensors)({key: join(value, new_tensors[key]) for key, value in tensors.items()})  # type: ignore[call-arg]
    raise TypeError(f"Only tensors and arrays can be joined, not {type(tensors).__name__}.")


def _joined(first: torch.Tensor, second: torch.Tensor, padding: int) -> torch.Tensor:
    rows = [row.reshape(1) if row.ndim == 0 else row for row in (first, second)]
    if first.ndim > 1:
        width = max(row.shape[1] for row in rows)
        rows = [
            nn.functional.pad(row, (*[0] * 2 * (row.ndim - 2), 0, width - row.shape[1]), value=padding)
            for row in rows
        ]
    return torch.cat(rows)


def nested_truncate(tensors: Any, limit: int) -> Any:
    """The first `limit` rows of every tensor and array."""
    return nested.apply(lambda leaf: leaf[:limit], tensors)


def denumpify_detensorize(metrics: Any) -> Any:
    """Arrays and tensors of one element as plain numbers, in any nesting."""
    if isinstance(metrics, Mapping):
        return type(metrics)({key: denumpify_detensorize(value) for key, value in metrics.items()})  # type: ignore[call-arg]
    if isinstance(metrics, (list, tuple)):
        return type(metrics)(denumpify_detensorize(value) for value in metrics)
    is_number = isinstance(metrics, np.generic) or (
        isinstance(metrics, torch.Tensor) and metrics.numel() == 1
    )
    return metrics.item() if is_number else metrics


# Processes


def is_main_process(local_rank: int) -> bool:
    """Whether a process of that rank on its machine, -1 without a launcher, is the first."""
    return local_rank in (-1, 0)


@contextmanager
def torch_distributed_zero_first(local_rank: int) -> Iterator[None]:
    """Lets the first process of each machine run the block before the others.

    Args:
        local_rank: the process's rank on its machine; -1 without a launcher.
    """
    if not is_main_process(local_rank):
        dist.barrier()
    yield
    if local_rank == 0:
        dist.barrier()


def distributed_concat(tensor: Any, num_total_examples: int | None = None) -> Any:
    """Tensors of all processes, of equal shapes, joined along the first dimension.

    Args:
        tensor: tensors in any nesting.
        num_total_examples: number of rows to keep.

    Raises:
        SetupError: no process group was started.
    """
    if not dist.is_initialized():
        raise SetupError("`distributed_concat` joins what several processes have: start them with torchrun.")

    def joined(leaf: torch.Tensor) -> torch.Tensor:
        rows = leaf.reshape(1) if leaf.ndim == 0 else leaf.contiguous()
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)[:num_total_examples]

    return nested.apply(joined, tensor)


def nested_gather(tensors: Any, parallel_mode: ParallelMode, name: str | None = None) -> Any:
    """Tensors of all processes where there are several, as `args.parallel_mode` says; else what is given."""
    if tensors is None or parallel_mode != ParallelMode.DISTRIBUTED:
        return tensors
    return distributed_concat(tensors)


# Checkpoints


def sort_checkpoints(
    output_dir: str,
    checkpoint_prefix: str = PREFIX_CHECKPOINT_DIR,
    use_mtime: bool = False,
    best_model_checkpoint: str | None = None,
) -> list[str]:
    """Paths of the folders `{checkpoint_prefix}-N` in `output_dir`, the oldest first.

    Args:
        output_dir: the folder to look in.
        checkpoint_prefix: of their names.
        use_mtime: the oldest by its time rather than by its number; by number where times are within a second.
        best_model_checkpoint: comes last but one, next to the newest.
    """
    name = re.compile(rf"{re.escape(checkpoint_prefix)}-(\d+)")
    steps = {
        str(path): int(match[1])
        for path in Path(output_dir).iterdir()
        if path.is_dir() and (match := name.fullmatch(path.name))
    }
    paths = sorted(steps, key=steps.__getitem__)
    if use_mtime:
        times = {path: os.path.getmtime(path) for path in paths}
        if times and max(times.values()) - min(times.values()) >= 1:
            paths.sort(key=times.__getitem__)
    best = _the_same(paths[:-1], best_model_checkpoint)
    if best is not None:
        paths.remove(best)
        paths.insert(-1, best)
    return paths


def rotate_checkpoints(
    output_dir: str,
    save_total_limit: int | None = None,
    best_model_checkpoint: str | None = None,
    use_mtime: bool = False,
    checkpoint_prefix: str = PREFIX_CHECKPOINT_DIR,
) -> None:
    """Removes the oldest checkpoints of a folder until `save_total_limit` are left; never the newest, nor the best.

    Args:
        output_dir: the folder.
        save_total_limit: how many to keep; None or 0 keeps all.
        best_model_checkpoint: path of the best one.
        use_mtime: as in `sort_checkpoints`.
        checkpoint_prefix: of their names.
    """
    if save_total_limit is None or save_total_limit <= 0:
        return
    paths = sort_checkpoints(output_dir, checkpoint_prefix, use_mtime, best_model_checkpoint)
    best = _the_same(paths, best_model_checkpoint)
    for path in paths[: max(0, len(paths) - save_total_limit)]:
        if path not in (best, paths[-1]):
            remove(Path(path))


def _the_same(paths: list[str], wanted: str | None) -> str | None:
    """Which of the paths leads to the wanted folder."""
    return next((path for path in paths if wanted is not None and same_folder(Path(path), wanted)), None)
