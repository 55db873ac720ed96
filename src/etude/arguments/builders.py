"""`args.set_training(...)` and its like: arguments that belong together, changed after they were made."""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from etude.arguments import rules
from etude.core.names import HubStrategy, IntervalStrategy, OptimizerNames, SaveStrategy, SchedulerType
from etude.errors import ConfigurationError

Arguments = TypeVar("Arguments", bound="Builders")
Parameters = ParamSpec("Parameters")
Method = Callable[Concatenate[Arguments, Parameters], dict[str, Any]]
Setter = Callable[Concatenate[Arguments, Parameters], Arguments]


def sets(**fields: str) -> Callable[[Method[Arguments, Parameters]], Setter[Arguments, Parameters]]:
    """Makes a setter of a method: its parameters, where they are given, are put into the fields of these names.

    A parameter that is not named here is a field of the same name. What the method returns is set besides.
    """

    def decorate(method: Method[Arguments, Parameters]) -> Setter[Arguments, Parameters]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def setter(self: Arguments, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Arguments:
            given = signature.bind(self, *args, **kwargs).arguments
            values = {fields.get(name, name): value for name, value in given.items() if name != "self"}
            return changed(self, values | method(self, *args, **kwargs))

        setter.__signature__ = signature.replace(return_annotation="Self")  # type: ignore[attr-defined]
        return setter

    return decorate


def changed(args: Arguments, values: dict[str, Any]) -> Arguments:
    """`args` itself with these values; as it was, if they cannot work."""
    candidate = copy.copy(args)
    for name, value in values.items():
        setattr(candidate, name, value)
    rules.settle(candidate)
    vars(args).update(vars(candidate))
    return args


def needs_steps(strategy: str, steps: float) -> None:
    """Raises a ConfigurationError for something every 0 steps."""
    if str(strategy) == "steps" and steps == 0:
        raise ConfigurationError("`strategy='steps'` needs `steps` above 0.")


class Builders:
    """Setters of groups of arguments.

    Each returns the arguments themselves. An argument that is not given keeps its value: the defaults are those of the
    reference, which puts them in place of what was set before. All arguments are checked afterwards, and nothing
    changes where the check fails.

    Raises:
        ConfigurationError: the arguments cannot work together any more.
    """

    @sets(batch_size="per_device_train_batch_size", num_epochs="num_train_epochs")
    def set_training(
        self,
        learning_rate: float = 5e-5,
        batch_size: int = 8,
        weight_decay: float = 0,
        num_epochs: float = 3,
        max_steps: int = -1,
        gradient_accumulation_steps: int = 1,
        seed: int = 42,
        activation_checkpointing: bool = False,
        gradient_checkpointing: bool | None = None,
    ) -> dict[str, Any]:
        """How to train; turns `do_train` on. `gradient_checkpointing` is an older name."""
        if gradient_checkpointing is None:
            return {"do_train": True}
        warnings.warn(
            "`gradient_checkpointing` is now called `activation_checkpointing`; please rename it.",
            FutureWarning,
            stacklevel=3,
        )
        return {"do_train": True, "activation_checkpointing": gradient_checkpointing}

    @sets(
        strategy="eval_strategy",
        steps="eval_steps",
        batch_size="per_device_eval_batch_size",
        accumulation_steps="eval_accumulation_steps",
        delay="eval_delay",
        loss_only="prediction_loss_only",
    )
    def set_evaluate(
        self: Any,
        strategy: str | IntervalStrategy = "no",
        steps: int = 500,
        batch_size: int = 8,
        accumulation_steps: int | None = None,
        delay: float | None = None,
        loss_only: bool = False,
    ) -> dict[str, Any]:
        """When and how to evaluate; a strategy turns `do_eval` on. A `delay` of None changes nothing."""
        needs_steps(strategy, steps)
        values = {"eval_delay": self.eval_delay if delay is None else delay}
        return values if self.eval_steps is not None else {**values, "eval_steps": steps}

    @sets(batch_size="per_device_eval_batch_size", loss_only="prediction_loss_only")
    def set_testing(self, batch_size: int = 8, loss_only: bool = False) -> dict[str, Any]:
        """How to predict; turns `do_predict` on."""
        return {"do_predict": True}

    @sets(
        strategy="save_strategy",
        steps="save_steps",
        total_limit="save_total_limit",
        on_each_node="save_on_each_node",
    )
    def set_save(
        self,
        strategy: str | SaveStrategy = "steps",
        steps: int = 500,
        total_limit: int | None = None,
        on_each_node: bool = False,
    ) -> dict[str, Any]:
        """When to write checkpoints, and how many to keep."""
        needs_steps(strategy, steps)
        return {}

    @sets(
        strategy="logging_strategy",
        steps="logging_steps",
        level="log_level",
        first_step="logging_first_step",
        nan_inf_filter="logging_nan_inf_filter",
        on_each_node="log_on_each_node",
        replica_level="log_level_replica",
    )
    def set_logging(
        self,
        strategy: str | IntervalStrategy = "steps",
        steps: int = 500,
        report_to: str | list[str] = "none",
        level: str = "passive",
        first_step: bool = False,
        nan_inf_filter: bool = False,
        on_each_node: bool = False,
        replica_level: str = "passive",
    ) -> dict[str, Any]:
        """When to log, and where to."""
        needs_steps(strategy, steps)
        return {}

    @sets(
        model_id="hub_model_id",
        strategy="hub_strategy",
        token="hub_token",
        private_repo="hub_private_repo",
        always_push="hub_always_push",
        revision="hub_revision",
    )
    def set_push_to_hub(
        self,
        model_id: str,
        strategy: str | HubStrategy = "every_save",
        token: str | None = None,
        private_repo: bool | None = None,
        always_push: bool = False,
        revision: str | None = None,
    ) -> dict[str, Any]:
        """Where to share the model, and when; turns `push_to_hub` on."""
        return {"push_to_hub": True}

    @sets(name="optim", beta1="adam_beta1", beta2="adam_beta2", epsilon="adam_epsilon", args="optim_args")
    def set_optimizer(
        self,
        name: str | OptimizerNames = "adamw_torch",
        learning_rate: float = 5e-5,
        weight_decay: float = 0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        args: str | None = None,
    ) -> dict[str, Any]:
        """Which optimizer, and its options."""
        return {}

    @sets(name="lr_scheduler_type", num_epochs="num_train_epochs")
    def set_lr_scheduler(
        self,
        name: str | SchedulerType = "linear",
        num_epochs: float = 3.0,
        max_steps: int = -1,
        warmup_steps: float = 0,
    ) -> dict[str, Any]:
        """Which schedule, how long it is and how it begins."""
        return {}

    @sets(
        train_batch_size="per_device_train_batch_size",
        eval_batch_size="per_device_eval_batch_size",
        drop_last="dataloader_drop_last",
        num_workers="dataloader_num_workers",
        pin_memory="dataloader_pin_memory",
        persistent_workers="dataloader_persistent_workers",
        prefetch_factor="dataloader_prefetch_factor",
        multiprocessing_context="dataloader_multiprocessing_context",
        in_order="dataloader_in_order",
        sampler_seed="data_seed",
    )
    def set_dataloader(
        self,
        train_batch_size: int = 8,
        eval_batch_size: int = 8,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = True,
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        multiprocessing_context: str | None = None,
        in_order: bool = True,
        auto_find_batch_size: bool = False,
        ignore_data_skip: bool = False,
        sampler_seed: int | None = None,
    ) -> dict[str, Any]:
        """How data is loaded, in batches of which size and in which order."""
        return {}
