"""Several processes, each with the whole model: PyTorch's DistributedDataParallel, started by torchrun."""

from __future__ import annotations

import atexit
import itertools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.nn.parallel import DistributedDataParallel

from etude.core.processes import join_processes
from etude.core.world import World
from etude.strategies.base import Channel, Strategy

_boards = itertools.count()  # all processes open theirs in the same order


@dataclass(frozen=True)
class DDPSettings:
    """Options of the process group and of DistributedDataParallel; None leaves PyTorch's default."""

    backend: str | None = None
    timeout: timedelta = timedelta(minutes=30)
    find_unused_parameters: bool | None = None
    bucket_cap_mb: int | None = None
    broadcast_buffers: bool | None = None
    static_graph: bool | None = None

    def module_options(self) -> dict[str, Any]:
        """Keyword arguments of DistributedDataParallel."""
        options = {
            # As in the reference: a model whose forward skips parameters must not hang.
            "find_unused_parameters": True
            if self.find_unused_parameters is None
            else self.find_unused_parameters,
            "bucket_cap_mb": self.bucket_cap_mb,
            "broadcast_buffers": self.broadcast_buffers,
            "static_graph": self.static_graph,
        }
        return {name: value for name, value in options.items() if value is not None}


class DDPStrategy(Strategy):
    """Gradients are averaged over the processes at the last micro-batch of each update."""

    name = "ddp"

    def __init__(self, world: World, device: torch.device, settings: DDPSettings) -> None:
        super().__init__(world, device)
        self._settings = settings
        self._control: dist.ProcessGroup | None = None
        self._channel: GroupChannel | None = None

    def setup(self) -> None:
        join_processes(self.world, self.device, self._settings.backend, self._settings.timeout)
        if self._control is None:
            # Python objects and flags travel on the host, so that agreeing on them never waits for the device.
            self._control = dist.new_group(backend="gloo", timeout=self._settings.timeout)
            self._channel = GroupChannel(
                self.world.size, dist.new_group(backend="gloo", timeout=self._settings.timeout)
            )

    def wrap(self, model: nn.Module) -> nn.Module:
        if isinstance(model, DistributedDataParallel):
            return model
        if not any(p.requires_grad for p in model.parameters()):
            return model
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids, **self._settings.module_options())

    def synchronize(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        if last or not isinstance(model, DistributedDataParallel):
            return nullcontext()
        return cast(AbstractContextManager[Any], model.no_sync())

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        return tensor

    def max(self, tensor: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def gather_objects(self, value: Any) -> list[Any]:
        return gather_objects(value, self.world.size, self._control)

    def agree(self, flags: list[bool]) -> list[bool]:
        shared = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=self._control)
        return [bool(flag) for flag in shared.tolist()]

    def from_main(self, value: Any) -> Any:
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._control)
        return values[0]

    def channel(self) -> Channel:
        assert self._channel is not None
        return self._channel

    def board(self) -> Any:
        # the store that the processes have met through; a clone, so that no thread waits for another one in it
        store: Any = dist.distributed_c10d._get_default_store()
        return PrefixStore(f"etude/{next(_boards)}", store.clone())

    def part_at_exit(self) -> None:
        # a process that ends with its threads for communication running may be aborted, and lose its exit code
        atexit.register(_part)

    def barrier(self) -> None:
        dist.barrier(group=self._control)


class GroupChannel:
    """A process group that only one thread uses: collectives of two threads in one group could meet each other."""

    def __init__(self, size: int, group: dist.ProcessGroup) -> None:
        self._size = size
        self._group = group

    def gather_objects(self, value: Any) -> list[Any]:
        """The values of all processes, by rank, on every process."""
        return gather_objects(value, self._size, self._group)


def gather_objects(value: Any, size: int, group: dist.ProcessGroup | None) -> list[Any]:
    """The values of all `size` processes of a group, by rank."""
    values: list[Any] = [None] * size
    dist.all_gather_object(values, value, group=group)
    return values


def _part() -> None:
    if dist.is_initialized():  # the script may have done it
        dist.destroy_process_group()
