"""Where the loop stands inside a run: the position in the data, and the losses not logged yet."""

from __future__ import annotations

from typing import Any

import torch


class Progress:
    """Position in the data and running losses of this process.

    Attributes:
        epoch: the epoch in progress, from 0.
        micro_steps: micro-batches done in it.
        last_logged_step: the step of the last row with a training loss.
        flops, tokens: floating-point operations and input tokens not yet added to the state; always added before the
            state is saved.
        grad_norm: norm of the last update's gradient before clipping, on the device.
        learning_rate: learning rate of the last update.
        logged_loss: sum of the losses of the steps that are logged.
        stop_epoch, stop_training: what callbacks had asked for when the state was saved.
        owed: flags of what was due at that step and is still to be done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.epoch = 0
        self.micro_steps = 0
        self.last_logged_step = 0
        self.stop_epoch = False
        self.stop_training = False
        self.owed: list[str] = []
        self.flops: float = 0  # whole numbers add up exactly, however often they are filed in between
        self.tokens: int | torch.Tensor = 0
        self.grad_norm: torch.Tensor | None = None
        self.learning_rate: float | None = None
        self._pending: torch.Tensor | None = None
        self.logged_loss = 0.0

    def finish_epoch(self) -> None:
        """Moves the position to the start of the next epoch."""
        self.epoch += 1
        self.micro_steps = 0

    def take_counts(self) -> tuple[float, int]:
        """Operations and tokens since the last call; waits for the device if tokens were counted there."""
        counts = self.flops, int(self.tokens)
        self.flops, self.tokens = 0, 0
        return counts

    def add_loss(self, loss: torch.Tensor) -> None:
        """Adds one update's loss; stays on the device."""
        self._pending = loss if self._pending is None else self._pending + loss

    def pending_loss(self) -> torch.Tensor:
        """Sum of the losses since the last row, on the device."""
        return torch.zeros((), device=self._device) if self._pending is None else self._pending

    def mark_logged(self, step: int, loss_sum: float) -> None:
        """Files the pending losses, whose sum over the row's steps is `loss_sum`, as logged at `step`."""
        self.last_logged_step = step
        self.logged_loss += loss_sum
        self._pending = None

    def total_loss(self, pending: float) -> float:
        """Sum of the losses of all steps of the run, given that of the pending ones."""
        return self.logged_loss + pending

    def state_dict(self) -> dict[str, Any]:
        """Everything above as plain values; floats survive JSON to the bit."""
        pending = self._pending
        return {
            "epoch": self.epoch,
            "micro_steps": self.micro_steps,
            "last_logged_step": self.last_logged_step,
            "stop_epoch": self.stop_epoch,
            "stop_training": self.stop_training,
            "owed": self.owed,
            "learning_rate": self.learning_rate,
            "grad_norm": None if self.grad_norm is None else self.grad_norm.item(),
            "pending_loss": None if pending is None else pending.item(),
            "pending_dtype": None if pending is None else str(pending.dtype).removeprefix("torch."),
            "logged_loss": self.logged_loss,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that state back."""
        for name in ("epoch", "micro_steps", "last_logged_step", "stop_epoch", "stop_training"):
            setattr(self, name, state_dict[name])
        self.owed = state_dict.get("owed", [])
        self.learning_rate = state_dict["learning_rate"]
        norm = state_dict["grad_norm"]
        self.grad_norm = None if norm is None else torch.tensor(norm, dtype=torch.float64)
        self.logged_loss = state_dict["logged_loss"]
        self._pending = None
        if state_dict["pending_loss"] is not None:
            dtype = getattr(torch, state_dict["pending_dtype"])
            self._pending = torch.tensor(state_dict["pending_loss"], dtype=dtype, device=self._device)
