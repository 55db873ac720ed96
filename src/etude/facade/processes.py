"""The Trainer's methods about the processes that share its work."""

from __future__ import annotations

from functools import partial
from typing import Any

from etude.facade.accelerator import AcceleratorView
from etude.facade.base import TrainerAttributes


class ProcessMethods(TrainerAttributes):
    """How many processes there are and what each holds, as code written for the reference asks for it."""

    def create_accelerator_and_postprocess(self) -> None:
        """Makes `accelerator`, the view that subclasses use. Called once, while the Trainer is built."""
        args = self.args
        seed = args.seed if args.data_seed is None else args.data_seed
        self.accelerator = AcceleratorView(self._etude, seed, lambda: self.optimizer)
        self.gather_function = partial(
            self.accelerator.gather_for_metrics, use_gather_object=args.eval_use_gather_object
        )
        kind = self.accelerator.state.distributed_type
        self.is_deepspeed_enabled, self.is_fsdp_enabled = kind == "DEEPSPEED", kind == "FSDP"

    def end(self) -> None:
        """Leaves the group of processes. Call it once, at the very end of a script."""
        self.accelerator.end_training()

    def get_tp_size(self) -> int:
        """Number of processes that share each layer: what the model says, else 1."""
        size: Any = getattr(self.model, "_tp_size", None)
        return 1 if size is None else int(size)

    def get_cp_size(self) -> int:
        """Number of processes that share each sequence; always 1."""
        return 1

    def get_sp_size(self) -> int:
        """Number of processes that share each sequence by heads; always 1."""
        return 1
