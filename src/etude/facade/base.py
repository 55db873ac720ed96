"""The attributes that all of the Trainer's methods share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from etude.arguments import TrainingArguments
from etude.core.state import TrainerControl, TrainerState
from etude.engine import Engine
from etude.hub.client import PushInProgress
from etude.memory.tracker import TrainerMemoryTracker


class TrainerAttributes:
    """Names and types of the Trainer's attributes; users read them, and may replace most at any time.

    Attributes:
        model: the model itself.
        model_wrapped: what the loop runs: the model, or the strategy's wrapper around it.
        loss_is_scaled_for_ga: for subclasses with their own `compute_loss`: True, its result is already divided by the
            items of the global batch; False, it is the mean over its micro-batch; None, find out.
        label_names: keys of a batch that hold labels.
        model_accepts_loss_kwargs: whether the model may be given `num_items_in_batch`.
        current_gradient_accumulation_steps: micro-batches of the update in progress.
        is_in_train: whether a training is in progress.
        hub_model_id: full name of the repository that is pushed to, on the main process; None before there is one.
        push_in_progress: the pushes that run in the background, or the last ones.
    """

    loss_is_scaled_for_ga: bool | None = None

    args: TrainingArguments
    model: nn.Module
    model_wrapped: nn.Module
    data_collator: Callable[[list[Any]], Any]
    train_dataset: Any
    eval_dataset: Any
    processing_class: Any
    model_init: Callable[..., nn.Module] | None
    compute_loss_func: Callable[..., Any] | None
    compute_metrics: Callable[..., dict[str, Any]] | None
    preprocess_logits_for_metrics: Callable[..., Any] | None
    label_smoother: Callable[..., Any] | None
    neftune_noise_alpha: float | None
    optimizer: Any
    lr_scheduler: Any
    optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None
    callback_handler: Any
    accelerator: Any
    gather_function: Any
    is_deepspeed_enabled: bool
    is_fsdp_enabled: bool
    state: TrainerState
    control: TrainerControl
    label_names: list[str]
    can_return_loss: bool
    model_accepts_loss_kwargs: bool
    current_gradient_accumulation_steps: int
    is_in_train: bool
    _signature_columns: list[str] | None
    hub_model_id: str | None
    push_in_progress: PushInProgress | None
    _train_batch_size: int
    _eval_dataloaders: dict[str, Any]
    _memory_tracker: TrainerMemoryTracker
    _etude: Engine
