"""Which process of how many this one is, as the launcher (torchrun) says in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """The place of this process among those of the run.

    Attributes:
        rank: number of this process among all, from 0.
        local_rank: number of this process among those of its machine, from 0.
        size: number of processes.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @property
    def is_local_main(self) -> bool:
        """Whether this is the first process of its machine."""
        return self.local_rank == 0

    @classmethod
    def from_environment(cls) -> World:
        """Reads RANK, LOCAL_RANK and WORLD_SIZE; a process that no launcher started is alone."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size <= 1 and "RANK" not in os.environ:
            return cls()
        rank = int(os.environ.get("RANK", "0"))
        return cls(rank=rank, local_rank=int(os.environ.get("LOCAL_RANK", str(rank))), size=size)
