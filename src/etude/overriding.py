"""What subclasses of the Trainer override: honoured where etude's loop has such a step, refused where it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from etude.errors import SetupError
from etude.loops.run import Overrides, Run

_LOOP = "the loop is in functions of its own; override `training_step`, `get_batch_samples` or `_inner_training_loop`, "
_LOOP += "or use a callback"
# Methods of the reference's Trainer that have no place in etude, and what to do instead.
REFUSED = {
    "_build_accelerator_args": "override `create_accelerator_and_postprocess`",
    "_defer_fsdp_gradient_reduction": "the strategy does it",
    "_has_mixed_mesh_grads": "override `_clip_grad_norm`",
    "_init_training_state": "use a callback's `on_train_begin`",
    "_load_callback_state": "callbacks restore themselves (`ExportableState`)",
    "_mixed_mesh_grad_norm": "override `_clip_grad_norm`",
    "_prepare_context_parallel_inputs": "override `_prepare_inputs`",
    "_prepare_for_training": "override `create_optimizer`, `create_scheduler` or `_wrap_model`",
    "_run_epoch": _LOOP,
    "_sync_replicated_trainable_parameters": "override `_wrap_model`",
    "_update_auto_batch_size": "set `_train_batch_size`",
    "_validate_args": "check after `super().__init__(...)`",
}


def is_overridden(trainer: Any, name: str) -> bool:
    """Whether a method is the work of somebody else than etude: of a subclass, or assigned to the instance."""
    method = getattr(trainer, name, None)
    function = getattr(method, "__func__", method)
    module = getattr(function, "__globals__", {}).get("__name__", "")
    return method is not None and not str(module).startswith("etude.")


def refuse_ignored(trainer: Any) -> None:
    """An override that nothing would call is an error.

    Raises:
        SetupError: there is one; says what to do instead.
    """
    for name, instead in REFUSED.items():
        if is_overridden(trainer, name):
            owner = next(
                (c.__name__ for c in type(trainer).__mro__ if name in vars(c)), type(trainer).__name__
            )
            raise SetupError(
                f"`{owner}.{name}` would never be called by etude: {instead} (docs/extending.md)."
            )


def loop_overrides(trainer: Any) -> Overrides:
    """What the loop has to do in a subclass's way; looked up once for each training."""
    clips = is_overridden(trainer, "_clip_grad_norm") or is_overridden(trainer, "_get_grad_norm")
    return Overrides(
        clip=_clip_by(trainer) if clips else None,
        due=_due_by(trainer) if is_overridden(trainer, "_maybe_log_save_evaluate") else None,
        track_tokens=is_overridden(trainer, "_track_num_input_tokens"),
    )


def _clip_by(trainer: Any) -> Callable[[Run], torch.Tensor]:
    def clip(run: Run) -> torch.Tensor:
        norm = trainer._clip_grad_norm(run.model) if run.settings.max_grad_norm > 0 else None
        norm = trainer._get_grad_norm(run.model, grad_norm=norm)
        return norm if isinstance(norm, torch.Tensor) else torch.tensor(float(norm))

    return clip


def _due_by(trainer: Any) -> Callable[[Run], None]:
    def due(run: Run) -> None:
        progress = run.progress
        trainer._maybe_log_save_evaluate(
            progress.pending_loss(),
            progress.grad_norm,
            run.model,
            None,
            progress.epoch,
            run.settings.ignore_keys,
            run.start_time,
            learning_rate=progress.learning_rate,
        )

    return due
