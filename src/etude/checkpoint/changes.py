"""Arguments that are not those that a checkpoint was written with: what each means for the run that goes on from it.

The classes are a table. An argument that is in none of them, such as one of a subclass, is taken to change the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from etude.checkpoint.files import TRAINING_ARGS_JSON
from etude.checkpoint.manifest import Manifest
from etude.errors import CheckpointError

Arguments = Mapping[str, Any]
WORLD_SIZE = "world_size"  # counts with the arguments here


class Effect(Enum):
    """What a changed argument means for a run that is resumed."""

    HARMLESS = "harmless"  # weights and metrics are what they would have been
    CHANGES = "changes the run"
    KEPT = "no effect: the optimizer goes on as it was saved"
    NEW_ORDER = "another order of samples"  # the position in the data means nothing
    NEW_OPTIMIZER = "another optimizer"  # its state does not fit


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


HARMLESS = names("""
    output_dir run_name project logging_dir report_to overwrite_output_dir do_train do_eval do_predict
    resume_from_checkpoint resume_with_fresh_optimizer restore_callback_states_from_checkpoint
    trackio_space_id trackio_bucket_id trackio_static_space_id
    push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
    logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter log_level
    log_level_replica disable_tqdm include_num_input_tokens_seen skip_memory_metrics
    save_strategy save_steps save_total_limit save_only_model save_in_background on_save_error save_on_each_node
    save_on_signal enable_jit_checkpoint max_time
    per_device_eval_batch_size eval_on_start eval_do_concat_batches eval_use_gather_object eval_accumulation_steps
    prediction_loss_only include_for_metrics batch_eval_metrics
    dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor dataloader_in_order
    dataloader_multiprocessing_context
    activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs
    max_tokens_per_batch global_train_batch_size
    torch_empty_cache_steps ddp_backend ddp_timeout ddp_find_unused_parameters ddp_bucket_cap_mb
    ddp_broadcast_buffers ddp_static_graph local_rank accelerator_config debug use_cpu auto_find_batch_size
    predict_with_generate generation_max_length generation_num_beams generation_config
""")
KEPT = names("learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon optim_args")
CHANGES = names("""
    num_train_epochs max_steps warmup_steps lr_scheduler_kwargs max_grad_norm label_smoothing_factor
    neftune_noise_alpha average_tokens_across_devices bf16 fp16 bf16_full_eval fp16_full_eval tf32 torch_compile
    torch_compile_backend torch_compile_mode use_liger_kernel liger_kernel_config use_cache full_determinism
    on_nonfinite eval_strategy eval_steps eval_delay load_best_model_at_end metric_for_best_model greater_is_better
    ignore_data_skip dataloader_drop_last dataloader_num_workers remove_unused_columns label_names
    fsdp fsdp_config deepspeed parallelism_config sortish_sampler
""")
NEW_ORDER = names(
    "packing packing_length train_sampling_strategy mixing_weights mixing_temperature mixing_stop"
)
NEW_OPTIMIZER = names("optim_target_modules learning_rates layerwise_lr_decay")
# Optimizers with the same state, in which it is written who computes the step.
SAME_STATE = (
    {"adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused"},
    {"adamw_bnb_8bit", "adamw_8bit"},
)
BY_LENGTH = {"group_by_length", "batch_rebalance"}
BY_METRIC = {"reduce_lr_on_plateau", "greedy"}


def _optimizer(before: Arguments, now: Arguments) -> Effect:
    both = {before["optim"], now["optim"]}
    return Effect.KEPT if any(both <= same for same in SAME_STATE) else Effect.NEW_OPTIMIZER


def _schedule(before: Arguments, now: Arguments) -> Effect:
    both = {before["lr_scheduler_type"], now["lr_scheduler_type"]}
    return Effect.NEW_OPTIMIZER if both & BY_METRIC else Effect.CHANGES


def _seed(before: Arguments, now: Arguments) -> Effect:
    seeds = [a["seed"] if a.get("data_seed") is None else a["data_seed"] for a in (before, now)]
    ordered = now["train_sampling_strategy"] == "sequential"
    return Effect.CHANGES if ordered or seeds[0] == seeds[1] else Effect.NEW_ORDER


def _lengths(before: Arguments, now: Arguments) -> Effect:
    by_length = now["train_sampling_strategy"] in BY_LENGTH or now.get("packing")
    return Effect.NEW_ORDER if by_length else Effect.HARMLESS


def _batch(before: Arguments, now: Arguments) -> Effect:
    sizes = [
        a["per_device_train_batch_size"] * a["gradient_accumulation_steps"] * a.get(WORLD_SIZE, 1)
        for a in (before, now)
    ]
    if sizes[0] == sizes[1] or before.get(WORLD_SIZE, 1) != now.get(WORLD_SIZE, 1):
        return Effect.HARMLESS  # with other processes the global batch is kept, by other accumulation steps
    return Effect.NEW_ORDER if now["train_sampling_strategy"] in BY_LENGTH else Effect.CHANGES


# What decides where the name alone does not.
DECIDED: dict[str, Callable[[Arguments, Arguments], Effect]] = {
    "optim": _optimizer,
    "lr_scheduler_type": _schedule,
    "seed": _seed,
    "data_seed": _seed,
    "length_column_name": _lengths,
    "per_device_train_batch_size": _batch,
    "gradient_accumulation_steps": _batch,
}
TABLE = {
    **dict.fromkeys(HARMLESS, Effect.HARMLESS),
    **dict.fromkeys(KEPT, Effect.KEPT),
    **dict.fromkeys(CHANGES, Effect.CHANGES),
    **dict.fromkeys(NEW_ORDER, Effect.NEW_ORDER),
    **dict.fromkeys(NEW_OPTIMIZER, Effect.NEW_OPTIMIZER),
}
WAYS_OUT = {
    Effect.NEW_ORDER: "begin the data of its epoch anew with ignore_data_skip=True",
    Effect.NEW_OPTIMIZER: "begin with a new optimizer with resume_with_fresh_optimizer=True",
}


@dataclass(frozen=True)
class Change:
    """An argument that is not what it was.

    Attributes:
        name: of the argument.
        before: its value in the checkpoint.
        now: its value in this run.
        effect: what that means.
    """

    name: str
    before: Any
    now: Any
    effect: Effect


def changes_since(folder: str, args: Any) -> list[Change]:
    """The arguments that are not those of a checkpoint; none for a checkpoint of the reference, which does not say.

    Raises:
        CheckpointError: the arguments in the checkpoint cannot be read.
    """
    before = arguments_of(Path(folder))
    now = {**json.loads(args.to_json_string()), WORLD_SIZE: args.world_size}
    return [] if before is None else changes(before, now)


def arguments_of(folder: Path) -> dict[str, Any] | None:
    """The arguments of a checkpoint, and the number of processes; None where it does not say.

    Raises:
        CheckpointError: they cannot be read.
    """
    path = folder / TRAINING_ARGS_JSON
    if not path.is_file():
        return None
    try:
        arguments = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    manifest = Manifest.load(folder)
    return arguments if manifest is None else {**arguments, WORLD_SIZE: manifest.world_size}


def changes(before: Arguments, now: Arguments) -> list[Change]:
    """The arguments that differ, of those that both sets have; tokens are never shown."""
    shared = [name for name in now if name in before and name != WORLD_SIZE and not name.endswith("_token")]
    return [
        Change(name, before[name], now[name], effect_of(name, before, now))
        for name in shared
        if now[name] != before[name]
    ]


def effect_of(name: str, before: Arguments, now: Arguments) -> Effect:
    """What a change of that argument means, `ignore_data_skip` and `resume_with_fresh_optimizer` considered."""
    decide = DECIDED.get(name)
    effect = decide(before, now) if decide else TABLE.get(name, Effect.CHANGES)
    if effect is Effect.NEW_ORDER and now.get("ignore_data_skip"):
        return Effect.CHANGES
    if effect in (Effect.NEW_OPTIMIZER, Effect.KEPT) and now.get("resume_with_fresh_optimizer"):
        return Effect.CHANGES
    return effect


def report(folder: str, found: list[Change]) -> str | None:
    """The changes that a person should know of, a line each; None where there is none.

    Raises:
        CheckpointError: with one of them the run cannot go on from the checkpoint.
    """
    impossible = [change for change in found if change.effect in WAYS_OUT]
    name = Path(folder).name
    if impossible:
        ways = dict.fromkeys(WAYS_OUT[change.effect] for change in impossible)
        raise CheckpointError(
            f"{name} cannot be gone on from with these arguments. Put them back, or {' and '.join(ways)}.\n"
            + _lines(impossible)
        )
    told = [change for change in found if change.effect is not Effect.HARMLESS]
    if not told:
        return None
    harmless = len(found) - len(told)
    more = f"\n  and {harmless} harmless {'one' if harmless == 1 else 'ones'}" if harmless else ""
    return f"Arguments changed since {name}\n{_lines(told)}{more}"


def _lines(found: list[Change]) -> str:
    cells = [(change.name, transition(change.before, change.now), change.effect.value) for change in found]
    first, second = (max(len(row[column]) for row in cells) for column in (0, 1))
    return "\n".join(f"  {name:<{first}}  {values:<{second}}  {effect}" for name, values, effect in cells)


def transition(before: Any, now: Any) -> str:
    """From one value to another."""
    return f"{_text(before)} -> {_text(now)}"


def _text(value: Any, longest: int = 32) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
