"""The Trainer's methods that make the optimizer and the learning-rate schedule."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from etude.errors import ConfigurationError
from etude.facade.base import TrainerAttributes
from etude.optim.assemble import chosen_rates, own_groups, schedule_of
from etude.optim.factory import is_optimizer_factory, optimizer_class_and_options
from etude.optim.groups import decay_parameter_names, is_empty, parameter_groups
from etude.optim.third_party import keep_embeddings_in_32_bits

# Keys under which an optimizer's keyword arguments may bring what it is to move; the last of them counts.
OWN_PARAMETERS = ("params", "model", "optimizer_dict")


class OptimizerMethods(TrainerAttributes):
    """Optimizer and schedule. Override `create_optimizer` or `create_scheduler`, and set the attribute there."""

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Makes both, as far as they are not there."""
        self.create_optimizer()
        self.create_scheduler(num_training_steps=num_training_steps)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Makes the optimizer of `model` (the Trainer's if not given), unless there is one.

        Raises:
            ConfigurationError: the arguments of the optimizer do not fit, or nothing is trained.
        """
        if self.optimizer is not None:
            return self.optimizer  # type: ignore[no-any-return]
        model = self.model if model is None else model
        if self.optimizer_cls_and_kwargs is not None:
            cls, options = self.optimizer_cls_and_kwargs
        else:
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        options = dict(options)
        if is_optimizer_factory(cls):
            own_groups(self.args, f"the optimizer factory {cls!r}")
            self.optimizer = cls()(model, **options)
        else:
            self.optimizer = cls(self._parameter_groups(model, options), **options)
        if options.get("optim_bits") == 8 and "bitsandbytes" in str(cls):
            keep_embeddings_in_32_bits(model)
        return self.optimizer  # type: ignore[no-any-return]

    def _parameter_groups(self, model: nn.Module, options: dict[str, Any]) -> Any:
        """What the optimizer is given first; taken out of `options` where it brings that itself."""
        own = [options.pop(key) for key in OWN_PARAMETERS if key in options]
        if own:
            own_groups(self.args, f"optim='{self.args.optim}'")
            groups = own[-1]
        else:
            decayed = self.get_decay_parameter_names(model)
            groups = parameter_groups(
                model,
                self.args.weight_decay,
                decayed,
                chosen_rates(self.args, model),
                self.args.learning_rate,
            )
        if is_empty(groups):
            raise ConfigurationError(
                "The model has no parameter that is trained: all have requires_grad=False."
            )
        return groups

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: Any, model: nn.Module | None = None) -> tuple[Any, dict[str, Any]]:
        """The class that `args.optim` names, and its keyword arguments.

        An override may also return a factory, which is called as `factory()(model, **kwargs)`, and may give parameter
        groups of its own as "params", "model" or "optimizer_dict".
        """
        return optimizer_class_and_options(args, model)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that weight decay acts on."""
        return decay_parameter_names(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        """Makes the schedule for a run of that many updates, unless there is one.

        Raises:
            UnknownArgumentError: `lr_scheduler_kwargs` has an option that the schedule does not take.
            ConfigurationError: it lacks one that the schedule needs.
        """
        if self.lr_scheduler is None:
            self.lr_scheduler = schedule_of(
                self.args, self.optimizer if optimizer is None else optimizer, num_training_steps
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
        """The parameters of every group, or the group that has `param`, given as a tensor or by its name.

        Raises:
            ConfigurationError: no group has it.
        """
        groups = self._require_optimizer().param_groups
        if param is None:
            return [group["params"] for group in groups]
        wanted = (
            dict(self.model.named_parameters(remove_duplicate=False)).get(param)
            if isinstance(param, str)
            else param
        )
        for group in groups:
            if any(p is wanted for p in group["params"]):
                return group
        name = repr(param) if isinstance(param, str) else f"the tensor of shape {tuple(param.shape)}"
        raise ConfigurationError(
            f"No parameter group of the optimizer has {name}: is it trained (requires_grad)?"
        )

    def _require_optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise ConfigurationError("Trainer optimizer is None: call `create_optimizer` or `train` first.")
        return self.optimizer  # type: ignore[no-any-return]
