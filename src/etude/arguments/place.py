"""Where a run is: which process this is, on which device, and what follows from it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from etude.core.names import ParallelMode
from etude.core.processes import join_processes
from etude.core.world import World

logger = logging.getLogger(__name__)


class Place:
    """The part of arguments that is not given: it is read from the environment and the machine, when asked for."""

    # fields that it looks at
    use_cpu: bool
    log_level: str
    log_level_replica: str
    log_on_each_node: bool
    save_on_each_node: bool
    ddp_backend: str | None
    ddp_timeout: int
    per_device_train_batch_size: int
    per_device_eval_batch_size: int

    @property
    def world(self) -> World:
        """The place of this process among those of the run."""
        return World.from_environment()

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.world.size

    @property
    def process_index(self) -> int:
        """Rank of this process among all."""
        return self.world.rank

    @property
    def local_process_index(self) -> int:
        """Rank of this process on its machine."""
        return self.world.local_rank

    @property
    def parallel_mode(self) -> ParallelMode:
        """Whether several processes share the work."""
        return ParallelMode.DISTRIBUTED if self.world_size > 1 else ParallelMode.NOT_PARALLEL

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        accelerator = None if self.use_cpu else torch.accelerator.current_accelerator(check_available=True)
        if accelerator is None:
            return torch.device("cpu")
        return torch.device(accelerator.type, self.local_process_index)

    @property
    def _setup_devices(self) -> torch.device:
        return self.device

    @property
    def n_gpu(self) -> int:
        """Devices of this process: 1 with an accelerator, else 0 (one process drives one device)."""
        return self._n_gpu

    @property
    def _n_gpu(self) -> int:
        return int(self.__dict__.get("_n_gpu", self.device.type != "cpu"))

    @_n_gpu.setter
    def _n_gpu(self, number: int) -> None:  # code written for the reference sets it
        self.__dict__["_n_gpu"] = number

    @property
    def place_model_on_device(self) -> bool | None:
        """Whether the Trainer moves the model to its device; None: it decides. For subclasses to override."""
        return None

    @property
    def _no_sync_in_gradient_accumulation(self) -> bool:
        return True

    @property
    def should_save(self) -> bool:
        """Whether this process writes the model."""
        return self.world.is_local_main if self.save_on_each_node else self.world.is_main

    @property
    def should_log(self) -> bool:
        """Whether this process prints."""
        return self.world.is_local_main if self.log_on_each_node else self.world.is_main

    def get_process_log_level(self) -> int:
        """The `logging` level that this process was asked for."""
        name = self.log_level if self.should_log else self.log_level_replica
        return logging.WARNING if name == "passive" else int(getattr(logging, name.upper()))

    @property
    def train_batch_size(self) -> int:
        """Samples in a micro-batch of this process."""
        return self.per_device_train_batch_size * max(1, self.n_gpu)

    @property
    def eval_batch_size(self) -> int:
        """Samples in an evaluation batch of this process."""
        return self.per_device_eval_batch_size * max(1, self.n_gpu)

    @property
    def ddp_timeout_delta(self) -> timedelta:
        """How long a collective may take."""
        return timedelta(seconds=self.ddp_timeout)

    @contextmanager
    def main_process_first(self, local: bool = True, desc: str = "work") -> Iterator[None]:
        """The block runs on the main process first; then on the others, which find its result in a cache.

        Processes join PyTorch's process group here if they have not yet.

        Args:
            local: the first process of every machine goes first, for caches that machines do not share.
            desc: what the block does, for the log.
        """
        world = self.world
        if world.size == 1:
            yield
            return
        join_processes(world, self.device, self.ddp_backend, self.ddp_timeout_delta)
        goes_first = world.is_local_main if local else world.is_main
        if not goes_first:
            logger.debug("Process %d waits for the main process: %s.", world.rank, desc)
            dist.barrier()
        try:
            yield
        finally:
            if goes_first:  # also after an error: the others must not wait forever
                dist.barrier()
