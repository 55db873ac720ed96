"""Which strategy a run gets."""

from __future__ import annotations

import torch

from etude.core.world import World
from etude.strategies.base import Strategy
from etude.strategies.ddp import DDPSettings, DDPStrategy


def select_strategy(world: World, device: torch.device, ddp: DDPSettings) -> Strategy:
    """`single` for one process, `ddp` for several."""
    if world.size == 1:
        return Strategy(world, device)
    return DDPStrategy(world, device, ddp)
