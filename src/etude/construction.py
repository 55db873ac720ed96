"""What must hold when a Trainer is built: one function a rule, each with the way out."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from etude.arguments import TrainingArguments
from etude.core import signature
from etude.core.names import IntervalStrategy
from etude.data.budget import BudgetSampler
from etude.data.loader import has_length
from etude.data.packing import PackedBatches
from etude.errors import ConfigurationError, SetupError
from etude.optim.assemble import own_groups
from etude.optional import is_instance_of

logger = logging.getLogger(__name__)


def model_or_init(model: Any, model_init: Any) -> None:
    """Exactly one of the two, and of the right kind."""
    if model is None and model_init is None:
        raise SetupError("`Trainer` requires either a `model` or `model_init` argument.")
    if model is not None and model_init is not None:
        raise ConfigurationError(
            "`Trainer` requires either a `model` or `model_init` argument, but not both."
        )
    if model is not None and not isinstance(model, nn.Module):
        raise ConfigurationError(f"`model` must be a torch.nn.Module, it is a {type(model).__name__}.")


def processing_class_of(processing_class: Any, tokenizer: Any) -> Any:
    """What prepares the inputs, given by its name of today or by the older one."""
    if tokenizer is None:
        return processing_class
    warnings.warn("`tokenizer` is now called `processing_class`.", FutureWarning, stacklevel=3)
    return tokenizer if processing_class is None else processing_class


def has_head(model: nn.Module, has_own_loss: bool) -> None:
    """A transformers model without a head returns no loss; with a loss of the user's own that is fine."""
    if has_own_loss or not is_instance_of(model, "transformers", "PreTrainedModel"):
        return
    # among the models without a head transformers also lists CLIP and its like, which compare with each other
    if type(model).__name__ in _headless_names() and not signature.computes_loss(model):
        raise ConfigurationError(
            f"{type(model).__name__} cannot be used as is for training: it has no head and computes no loss. Choose a "
            "class with one, such as AutoModelForSequenceClassification, or give a `compute_loss_func`."
        )


def _headless_names() -> set[str]:
    # loaded already: the model is one of its
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    names: set[str] = set()
    for value in MODEL_MAPPING_NAMES.values():
        names.update([value] if isinstance(value, str) else value)
    return names


def optimizers_fit(args: Any, optimizers: Any, optimizer_cls_and_kwargs: Any, model_init: Any) -> None:
    """Ready-made optimizers exclude the other ways to get one."""
    given = any(part is not None for part in optimizers)
    if optimizers[0] is not None and optimizer_cls_and_kwargs is not None:
        raise SetupError(
            "Passing both `optimizers` and `optimizer_cls_and_kwargs` is contradictory; choose one."
        )
    if model_init is not None and given:
        raise SetupError(
            "Passing `optimizers` together with `model_init` cannot work: each training builds a new model, whose "
            "parameters the optimizer would not have. Override `create_optimizer` and `create_scheduler` instead."
        )
    if optimizers[0] is not None:
        own_groups(args, "the optimizer in `optimizers`")


def arguments_fit(args: Any) -> None:
    """The arguments are etude's own."""
    if not isinstance(args, TrainingArguments):
        kind = f"{type(args).__module__}.{type(args).__qualname__}"
        raise ConfigurationError(f"`args` must be etude's TrainingArguments, it is a {kind}.")


def functions_fit(**functions: Any) -> None:
    """What is to be called must be a function."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise ConfigurationError(f"`{name}` must be a function, it is a {type(function).__name__}.")


def optimizer_fits_model(optimizer: Any, model: nn.Module) -> None:
    """An optimizer that has none of the model's parameters would train nothing."""
    trained = {id(parameter) for parameter in model.parameters()}
    groups = getattr(optimizer, "param_groups", None)
    if groups and not any(id(parameter) in trained for group in groups for parameter in group["params"]):
        raise SetupError(
            "The optimizer has none of the model's parameters, so that nothing would be trained: make it from "
            "`model.parameters()` of the model that the Trainer is given (`optimizers`, `create_optimizer`)."
        )


def collator_fits(data_collator: Any) -> None:
    """The collator must be a function of a list of samples."""
    if data_collator is not None and not callable(data_collator):
        raise TypeError(
            f"The `data_collator` should be a callable that makes a batch of a list of samples; a "
            f"{type(data_collator).__name__} is not. (An object with `collate_batch` was one in old versions.)"
        )


def data_fits(args: Any, train_dataset: Any, eval_dataset: Any) -> None:
    """Data sets must be there where the arguments need them, and be no loaders."""
    for name, data in (("train_dataset", train_dataset), ("eval_dataset", eval_dataset)):
        if isinstance(data, DataLoader):
            raise ConfigurationError(
                f"`{name}` is a DataLoader: give the data set itself, or override "
                f"`get_{name.partition('_')[0]}_dataloader`."
            )
    if args.eval_strategy != IntervalStrategy.NO and eval_dataset is None:
        raise ConfigurationError(
            f"You have set `eval_strategy='{args.eval_strategy}'` but there is no `eval_dataset`: give one, or set "
            "`eval_strategy='no'`."
        )
    if train_dataset is not None and not has_length(train_dataset) and args.max_steps <= 0:
        raise ConfigurationError(
            "The train_dataset does not implement __len__, so `max_steps` has to be specified: its number of updates "
            "cannot be worked out."
        )


def best_metric_fits(args: Any) -> None:
    """Choosing the best model needs a metric."""
    if (args.load_best_model_at_end or args.save_strategy == "best") and args.metric_for_best_model is None:
        raise ConfigurationError(
            "`metric_for_best_model` must be set for `load_best_model_at_end` and `save_strategy='best'`."
        )


def metrics_fit(args: Any, compute_metrics: Any) -> None:
    """Metrics by batch need a function that is told when the last one has come."""
    if not args.batch_eval_metrics or compute_metrics is None:
        return
    parameters = inspect.signature(compute_metrics).parameters.values()
    if not any(p.name == "compute_result" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        raise ConfigurationError(
            "`batch_eval_metrics=True` needs a `compute_metrics` that takes `compute_result`, a truth value: True for "
            "the last batch, when it should return the metrics of all of them."
        )


def call_model_init(model_init: Callable[..., Any], trial: Any) -> nn.Module:
    """The model that `model_init` makes, with or without the trial as its argument."""
    parameters = inspect.signature(model_init).parameters
    if len(parameters) > 1:
        raise SetupError(f"`model_init` should have 0 or 1 argument, it has {len(parameters)}.")
    model = model_init(trial) if parameters else model_init()
    if model is None:
        raise SetupError("`model_init` should not return None: return the model.")
    return model  # type: ignore[no-any-return]


def batches_are_kept(args: Any, loader: Any) -> None:
    """A loader or a sampler of the user's own decides itself which samples are computed together."""
    batches = getattr(loader, "batch_sampler", None)
    options = (("max_tokens_per_batch", BudgetSampler), ("packing", PackedBatches))
    for option, own in options:
        if getattr(args, option) and not isinstance(batches, own):
            raise ConfigurationError(
                f"`{option}` has no effect on a training loader or sampler of your own, which decides itself which "
                "samples are computed together: leave it out, or do not override `get_train_dataloader` and "
                "`_get_train_sampler`."
            )
