"""The Trainer's methods that make the optimizer and the learning-rate schedule."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from etude.errors import ConfigurationError
from etude.facade.base import TrainerAttributes
from etude.optim.factory import optimizer_class_and_options
from etude.optim.groups import decay_parameter_names, parameter_groups
from etude.optim.schedules import build_schedule


class OptimizerMethods(TrainerAttributes):
    """Optimizer and schedule. Override `create_optimizer` or `create_scheduler`, and set the attribute there."""

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Makes both, as far as they are not there."""
        self.create_optimizer()
        self.create_scheduler(num_training_steps=num_training_steps)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Makes the optimizer of `model` (the Trainer's if not given), unless there is one."""
        if self.optimizer is not None:
            return self.optimizer  # type: ignore[no-any-return]
        model = self.model if model is None else model
        if self.optimizer_cls_and_kwargs is not None:
            cls, options = self.optimizer_cls_and_kwargs
        else:
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        options = dict(options)
        # Some optimizers bring their own parameters, under one of three names.
        groups = next(
            (options.pop(key) for key in ("params", "model", "optimizer_dict") if key in options), None
        )
        if groups is None:
            groups = parameter_groups(model, self.args.weight_decay, self.get_decay_parameter_names(model))
        if isinstance(groups, list) and all(
            isinstance(g, dict) and not g.get("params", True) for g in groups
        ):
            raise ConfigurationError(
                "The model has no parameter that is trained: all have requires_grad=False."
            )
        self.optimizer = cls(groups, **options)
        return self.optimizer  # type: ignore[no-any-return]

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: Any, model: nn.Module | None = None) -> tuple[Any, dict[str, Any]]:
        """The class that `args.optim` names, and its keyword arguments."""
        return optimizer_class_and_options(args)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that weight decay acts on."""
        return decay_parameter_names(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        """Makes the schedule for a run of that many updates, unless there is one."""
        if self.lr_scheduler is None:
            self.lr_scheduler = build_schedule(
                str(self.args.lr_scheduler_type),
                self.optimizer if optimizer is None else optimizer,
                warmup=self.args.get_warmup_steps(num_training_steps),
                total=num_training_steps,
                options=self.args.lr_scheduler_kwargs,  # type: ignore[arg-type]
            )
            self._etude.created_scheduler = True
        return self.lr_scheduler

    def get_num_trainable_parameters(self) -> int:
        """Number of parameters that are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def get_learning_rates(self) -> list[float]:
        """The learning rate of each parameter group."""
        return [group["lr"] for group in self._require_optimizer().param_groups]

    def get_optimizer_group(self, param: Any = None) -> Any:
        """The parameter groups, or the one that has `param`."""
        groups = self._require_optimizer().param_groups
        if param is None:
            return [group["params"] for group in groups]
        return next((g for g in groups if any(p is param for p in g["params"])), None)

    def _require_optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise ConfigurationError("Trainer optimizer is None: call `create_optimizer` or `train` first.")
        return self.optimizer  # type: ignore[no-any-return]
