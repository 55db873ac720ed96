"""The Trainer's methods for the moments of a training, under the reference's names; subclasses may override each.

The loop calls them where they are overridden, and otherwise does the same without the detour.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from etude.core.outputs import TrainOutput
from etude.facade.processes import ProcessMethods
from etude.loops import step
from etude.loops import train as loop
from etude.loops.run import Run
from etude.preparation import places_model
from etude.training import finish, make_plan, wrapped


class LoopMethods(ProcessMethods):
    """What surrounds the steps: the size of the run, clipping, what is logged, the end."""

    def get_total_train_batch_size(self, args: Any) -> int:
        """Samples of one update, of all processes."""
        sharing = self.get_tp_size() * self.get_cp_size() * self.get_sp_size()
        steps = self._etude.kept_accumulation or args.gradient_accumulation_steps
        return int(self._train_batch_size * steps * (args.world_size // sharing))

    def set_initial_training_values(
        self, args: Any, dataloader: Any
    ) -> tuple[int, int, int, float, int, int, int]:
        """The size of a run.

        Returns:
            (epochs, updates of an epoch, samples of the data, samples of the run, samples of an update, micro-batches
            of an epoch, updates of the run).
        """
        plan = make_plan(self, args, dataloader)
        epochs = sys.maxsize if plan.num_epochs is None else plan.num_epochs
        return (
            epochs,
            plan.updates_per_epoch,
            plan.num_examples,
            plan.num_samples,
            plan.global_batch_size,
            plan.epoch_length,
            plan.max_steps,
        )

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """Moves a model that the Trainer has been given to its device."""
        model.to(device)

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: Any = None) -> nn.Module:
        """The module that the loop runs: the Trainer's model in the wrapper of several processes, where there are any.

        Args:
            model: the module of the training before, or the model.
            training: whether it is to be trained.
            dataloader: not used.
        """
        if not training:
            return self.model
        strategy = self._etude.strategy
        first = next(self.model.parameters(), None)
        if first is not None and first.device != strategy.device and places_model(self.args, self.model):
            self._move_model_to_device(self.model, strategy.device)  # the attribute was set to another model
        module: nn.Module = wrapped(model, self.model, strategy)
        return module

    def _get_learning_rate(self) -> float:
        """The learning rate of the first parameter group, as it is logged."""
        if self._etude.run is not None:
            return step.current_learning_rate(self._etude.run)
        return float(self.optimizer.param_groups[0]["lr"])

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        """Scales the gradients down to a norm of `args.max_grad_norm`; called where that is above 0.

        Returns:
            Their norm before that, or None, and `_get_grad_norm` is asked.
        """
        return step.clip(list(model.parameters()), self.args.max_grad_norm)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The norm of the gradients, as it is logged.

        Args:
            grad_norm: what `_clip_grad_norm` has returned; None where nothing is clipped.
        """
        return step.clip(list(model.parameters()), 0.0) if grad_norm is None else grad_norm

    def _maybe_log_save_evaluate(
        self,
        tr_loss: torch.Tensor,
        grad_norm: Any,
        model: nn.Module,
        trial: Any,
        epoch: float,
        ignore_keys_for_eval: list[str] | None,
        start_time: float,
        learning_rate: float | None = None,
    ) -> None:
        """Logs, evaluates and saves, as far as `control` asks for it; after each update and each epoch.

        Args:
            tr_loss: sum of the losses since the last row.
            grad_norm, learning_rate: of the last update.
            epoch: the epoch in progress.
        """
        loop.log_evaluate_save(self._running())

    def _finalize_training(self, trial: Any, num_train_samples: float, start_time: float) -> TrainOutput:
        """Closes a training: the last row, the best model, `on_train_end`."""
        return finish(self, self._running())

    # What code that copies the reference's `_maybe_log_save_evaluate` reads and sets

    @property
    def _globalstep_last_logged(self) -> int:
        """The step of the last row with a training loss."""
        return self._running().progress.last_logged_step

    @_globalstep_last_logged.setter
    def _globalstep_last_logged(self, value: int) -> None:
        self._running().progress.last_logged_step = value

    @property
    def _total_loss_scalar(self) -> float:
        """Sum of the losses that are logged."""
        return self._running().progress.logged_loss

    @_total_loss_scalar.setter
    def _total_loss_scalar(self, value: float) -> None:
        self._running().progress.logged_loss = value

    def _running(self) -> Run:
        assert self._etude.run is not None, "no training is in progress"
        return self._etude.run
