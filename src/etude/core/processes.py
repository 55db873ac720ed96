"""Meeting the other processes of a run through PyTorch's process group."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist

from etude.core.world import World


def join_processes(world: World, device: torch.device, backend: str | None, timeout: timedelta) -> None:
    """Starts the process group, unless there is one; waits for the other processes to do so.

    Args:
        world: the place of this process.
        device: its device.
        backend: communication library; by device if None.
        timeout: how long a collective may take.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = backend or ("nccl" if device.type == "cuda" else "gloo")
        dist.init_process_group(backend, rank=world.rank, world_size=world.size, timeout=timeout)
