"""What the loop asks of a strategy. The base is also the strategy of a run with one process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import nn

from etude.core.world import World


class Channel(Protocol):
    """A way to the other processes for one thread at a time."""

    def gather_objects(self, value: Any) -> list[Any]:
        """The values of all processes, by rank, on every process."""
        ...


class Strategy:
    """One process on one device: every collective is the identity.

    A strategy for several processes overrides these methods; the loop does not know which one it has.
    """

    name = "single"
    repeats = False  # whether the work in progress only keeps this process in step with the others

    def __init__(self, world: World, device: torch.device) -> None:
        self.world = world
        self.device = device

    def setup(self) -> None:
        """Joins the other processes, where there are any. May be called more than once."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module whose forward and backward the loop runs."""
        return model

    def synchronize(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Context of one micro-batch: gradients are exchanged at the `last` one of an update, and only there."""
        return nullcontext()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over processes, in place; not waited for by the host."""
        return tensor

    def max(self, tensor: torch.Tensor) -> torch.Tensor:
        """Maximum over processes, in place."""
        return tensor

    def gather_objects(self, value: Any) -> list[Any]:
        """The values of all processes, by rank, on every process."""
        return [value]

    def agree(self, flags: list[bool]) -> list[bool]:
        """Each flag is set everywhere if any process has set it."""
        return flags

    def from_main(self, value: Any) -> Any:
        """The main process's value, on every process."""
        return value

    def channel(self) -> Channel:
        """A way of its own to the other processes, for a thread beside the training."""
        return self

    def board(self) -> Any:
        """A new place where the processes leave text for each other; None where there is but one process."""
        return None

    def part_at_exit(self) -> None:
        """Has this process leave the others in order when it ends. Call it where all of them are about to end."""

    def barrier(self) -> None:
        """Waits until every process is here."""
