"""accelerate's state of the process, for code that asks accelerate itself about it.

The Trainer does not use it. But functions of accelerate (its logger, `broadcast_object_list`, `set_seed`) read one
state of the whole process, which transformers sets up when arguments are built; so it is done here, after etude has
joined the processes, with etude's device and precision.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from etude.arguments import TrainingArguments
from etude.arguments.accelerate import AccelerateArguments
from etude.facade.accelerator import AcceleratorView
from etude.strategies.ddp import DDPSettings
from etude.strategies.select import select_strategy

_made: dict[tuple[bool, str], Any] = {}


def attach(patches: Any) -> None:
    """Lets every `TrainingArguments` set up the state, and every view fall through to the accelerator of it."""
    if importlib.util.find_spec("accelerate") is None:
        return
    original = TrainingArguments.__post_init__

    @functools.wraps(original)
    def then_adopt(self: TrainingArguments) -> None:
        original(self)
        adopt(self)

    patches.set(TrainingArguments, "__post_init__", then_adopt)
    patches.set(AccelerateArguments, "distributed_state", property(_partial_state))
    patches.set(AcceleratorView, "behind", lambda view: next(reversed(_made.values())))


def adopt(args: TrainingArguments) -> None:
    """Makes accelerate's state say what these arguments say; nothing where it says so already."""
    key = (args.device.type == "cpu", args.mixed_precision)
    if args.accelerator_config.use_configured_state or (_made and next(reversed(_made)) == key):
        return
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    world = args.world
    if world.size > 1:  # accelerate adopts a group of processes that is there
        select_strategy(world, args.device, DDPSettings(args.ddp_backend, args.ddp_timeout_delta)).setup()
    AcceleratorState._reset_state(reset_partial_state=True)
    cpu, precision = key
    # accelerate knows no float16 on the CPU; nothing is computed with this object
    _made[key] = Accelerator(cpu=cpu, mixed_precision="no" if cpu and precision == "fp16" else precision)


def forget() -> None:
    """Drops the state that was made here."""
    if not _made:
        return
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    _made.clear()


def _partial_state(args: Any) -> Any:
    from accelerate import PartialState

    return PartialState()
