"""What happens before and around a training: the model made ready, and the attempts to find a batch size."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch import nn

from etude.arguments import TrainingArguments
from etude.checkpoint import resume
from etude.checkpoint.storage import local_folder
from etude.core import rng, signature
from etude.core.interval import Interval, seconds
from etude.core.names import SaveStrategy
from etude.core.outputs import TrainOutput
from etude.core.speed import speed_metrics
from etude.data.tokens import TokenCounter
from etude.engine import Engine
from etude.errors import UnsupportedOptionError
from etude.guards.clock import Clock
from etude.guards.oom import Beginning, find_executable_batch_size
from etude.guards.preempt import Interruptions
from etude.guards.signals import StopSignals
from etude.models.liger import apply_liger_kernel
from etude.models.recompute import enable_recomputation
from etude.models.smoothing import LabelSmoother
from etude.models.special_tokens import align_special_tokens

SLOW_DISK = 100e6  # bytes a second


def seed(args: TrainingArguments) -> None:
    """Seeds every generator; with `full_determinism` PyTorch computes the same bits each time from now on."""
    if args.full_determinism:
        rng.enable_full_determinism(args.seed)
    else:
        rng.set_seed(args.seed)


def places_model(args: TrainingArguments, model: nn.Module) -> bool:
    """Whether the Trainer moves the model to its device when it gets it."""
    if args.place_model_on_device is not None:
        return bool(args.place_model_on_device)
    # a model spread over devices stays where it is; one that is evaluated in half precision goes there in that
    return getattr(model, "hf_device_map", None) is None and full_eval_dtype(args) is None


def full_eval_dtype(args: TrainingArguments) -> torch.dtype | None:
    """The format that whole models are evaluated in, outside of a training; None: their own."""
    if args.fp16_full_eval:
        return torch.float16
    return torch.bfloat16 if args.bf16_full_eval else None


def select_smoother(args: TrainingArguments, model: nn.Module) -> LabelSmoother | None:
    """The loss with smoothed labels, if one is asked for and the labels are classes."""
    if args.label_smoothing_factor == 0:
        return None
    problem = getattr(getattr(model, "config", None), "problem_type", None)
    if problem == "multi_label_classification":
        warnings.warn(
            "Label smoothing is not compatible with multi-label classification: it is off for this model.",
            UserWarning,
            stacklevel=4,
        )
        return None
    return LabelSmoother(epsilon=args.label_smoothing_factor)


def prepare_model(trainer: Any) -> None:
    """Does to the model what the arguments ask for before it is trained."""
    args: TrainingArguments = trainer.args
    model = trainer.model
    if args.use_liger_kernel:
        apply_liger_kernel(model, args.liger_kernel_config)
    if full_eval_dtype(args) is not None:
        model.to(trainer._etude.strategy.device)
    if args.activation_checkpointing:
        enable_recomputation(model, args.activation_checkpointing_kwargs)  # type: ignore[arg-type]
    align_special_tokens(model, trainer.processing_class)


def run_attempts(
    trainer: Any, checkpoint: str | None, trial: Any, ignore_keys: list[str] | None
) -> TrainOutput:
    """Trains; with `auto_find_batch_size`, again from the beginning with smaller batches while memory runs out."""
    searching = trainer.args.auto_find_batch_size
    if searching and trainer.args.world_size > 1:
        raise UnsupportedOptionError(
            "`auto_find_batch_size` works in one process: where several train together, the others would wait for the "
            "one that ran out of memory. Set `per_device_train_batch_size` instead."
        )
    beginning = optimizer = scheduler = None
    if searching:
        optimizer, scheduler = trainer.optimizer, trainer.lr_scheduler
        parts = [part for part in (optimizer, scheduler) if part is not None]
        beginning = Beginning(trainer.model, parts, trainer.callback_handler.callbacks)
        found = None if checkpoint is None else resume.load_trainer_state(checkpoint).train_batch_size
        trainer._train_batch_size = found or trainer._train_batch_size

    def attempt(batch_size: int) -> TrainOutput:
        if beginning is not None and batch_size != trainer._train_batch_size:
            trainer.optimizer, trainer.lr_scheduler = optimizer, scheduler
            beginning.restore()
        trainer._train_batch_size = batch_size
        return trainer._inner_training_loop(  # type: ignore[no-any-return]
            batch_size=batch_size,
            args=trainer.args,
            resume_from_checkpoint=checkpoint,
            trial=trial,
            ignore_keys_for_eval=ignore_keys,
        )

    return find_executable_batch_size(attempt, trainer._train_batch_size, searching)()  # type: ignore[no-any-return]


def interruptions(trainer: Any) -> Interruptions:
    """What may stop the run, or save, from outside: signals, unless they are off, and the clock."""
    args: TrainingArguments = trainer.args
    strategy = trainer._etude.strategy
    keeps = args.save_strategy != SaveStrategy.NO or args.enable_jit_checkpoint
    by_clock = Interval.of(args.save_steps).text if args.save_strategy == SaveStrategy.STEPS else None
    clock = Clock(
        save_every=None if by_clock is None else seconds(by_clock, "save_steps"),
        max_time=None if args.max_time is None else seconds(args.max_time, "max_time"),
        saving_takes=lambda: saving_takes(trainer),
    )
    return Interruptions(
        StopSignals() if args.save_on_signal and keeps else None,
        clock,
        strategy.board if args.world_size > 1 else None,
        args.world.rank,
        args.world_size,
        patience=args.ddp_timeout,
    )


def saving_takes(trainer: Any) -> float:
    """Seconds that a checkpoint takes: those of the last one, or before the first an upper estimate by its size."""
    engine: Engine = trainer._etude
    if engine.writer.seconds_of_last_save is not None:
        return engine.writer.seconds_of_last_save + engine.mirror.seconds_of_last_upload
    weights: int = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    return 4 * weights / SLOW_DISK  # weights and Adam's two moments, and some more


def token_counter(trainer: Any) -> TokenCounter | None:
    """Counts the input tokens as `include_num_input_tokens_seen` says; None: not at all."""
    kind = trainer.args.include_num_input_tokens_seen
    if kind == "no":
        return None
    padding = getattr(trainer.processing_class, "pad_token_id", None)
    return TokenCounter(signature.main_input_name(trainer.model), kind == "all", padding)


def token_counts(trainer: Any, start_time: float | None) -> dict[str, float]:
    """What a row says about tokens: those seen, and with `start_time` those of this run for each second."""
    seen = trainer.state.num_input_tokens_seen
    engine: Engine = trainer._etude
    row: dict[str, float] = {"num_input_tokens_seen": seen}
    if start_time is not None and engine.run is not None:
        row |= speed_metrics("train", start_time, num_tokens=seen - engine.run.first_tokens)
    return row


def open_output(trainer: Any) -> None:
    """Makes what the run writes to: the repository that is pushed to, and the folder."""
    if trainer.args.push_to_hub:
        trainer.init_hf_repo()
    if trainer.args.should_save:
        os.makedirs(local_folder(str(trainer.args.output_dir)), exist_ok=True)
