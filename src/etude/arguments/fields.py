"""Every training argument: name, type, default and meaning, in groups.

Names and defaults are those of the reference; `on_nonfinite`, `learning_rates`, `layerwise_lr_decay`,
`save_in_background`, `on_save_error`, `save_on_signal`, `max_time` and `resume_with_fresh_optimizer` are etude's own.
The groups are plain dataclasses without behaviour: `TrainingArguments` joins them, `rules` checks them, `io` reads and
writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from etude.core.names import (
    HubStrategy,
    IntervalStrategy,
    NonFinitePolicy,
    OptimizerNames,
    SaveErrorPolicy,
    SaveStrategy,
    SchedulerType,
)


def arg(default: Any, help: str) -> Any:
    """A dataclass field with its one-line meaning."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class OutputFields:
    """Where a run lives."""

    output_dir: str | None = arg(
        None, "Folder of the run's checkpoints and log, or its URL (s3://...); 'trainer_output' if not given."
    )


@dataclass
class BatchFields:
    """How a global batch is made up."""

    per_device_train_batch_size: int = arg(8, "Samples in one micro-batch on one device.")
    per_device_eval_batch_size: int = arg(8, "Samples in one evaluation batch on one device.")
    gradient_accumulation_steps: int = arg(1, "Micro-batches, on each device, that make one update.")
    average_tokens_across_devices: bool = arg(True, "Count valid items over all processes, not over one.")
    auto_find_batch_size: bool = arg(False, "Shrink the micro-batch after running out of memory.")


@dataclass
class ScheduleFields:
    """How long to train, and how the learning rate moves."""

    num_train_epochs: float = arg(3.0, "Passes over the training data; may be fractional.")
    max_steps: int = arg(-1, "Number of updates; above 0 it replaces num_train_epochs.")
    lr_scheduler_type: SchedulerType | str = arg("linear", "Name of the learning-rate schedule.")
    lr_scheduler_kwargs: dict[str, Any] | str | None = arg(
        None, "More arguments of the schedule; JSON text allowed."
    )
    warmup_steps: float = arg(0, "Updates of warm-up, or their share of the run where below 1.")


@dataclass
class OptimFields:
    """The optimizer."""

    learning_rate: float = arg(5e-5, "Highest learning rate of the schedule.")
    optim: OptimizerNames | str = arg("adamw_torch_fused", "Name of the optimizer.")
    optim_args: str | None = arg(None, "More arguments of the optimizer: 'key=value,key=value'.")
    optim_target_modules: list[str] | str | None = arg(None, "Modules that low-rank optimizers act on.")
    learning_rates: dict[str, float] | str | None = arg(
        None, "Learning rates of parts of the model, by pattern of the parameters' names; JSON text allowed."
    )
    layerwise_lr_decay: float | None = arg(None, "Factor of the learning rate for each layer below the top.")
    weight_decay: float = arg(0.0, "Decoupled weight decay; biases and norms are exempt.")
    adam_beta1: float = arg(0.9, "Decay of Adam's first moment.")
    adam_beta2: float = arg(0.999, "Decay of Adam's second moment.")
    adam_epsilon: float = arg(1e-8, "Term added to Adam's denominator.")
    max_grad_norm: float = arg(
        1.0, "Gradients are scaled down to this total norm; 0 leaves them as they are."
    )
    label_smoothing_factor: float = arg(0.0, "Share of the target spread over all classes.")
    neftune_noise_alpha: float | None = arg(None, "Scale of the noise added to embeddings while training.")


@dataclass
class PrecisionFields:
    """Number formats and compilation."""

    bf16: bool = arg(False, "Run the forward pass in bfloat16 where that is safe.")
    fp16: bool = arg(False, "Run the forward pass in float16 where that is safe, with loss scaling.")
    bf16_full_eval: bool = arg(False, "Evaluate with the whole model in bfloat16.")
    fp16_full_eval: bool = arg(False, "Evaluate with the whole model in float16.")
    tf32: bool | None = arg(None, "Allow TF32 in matrix products; None leaves PyTorch's setting.")
    torch_compile: bool = arg(False, "Compile the model.")
    torch_compile_backend: str | None = arg(None, "Backend of torch.compile.")
    torch_compile_mode: str | None = arg(None, "Mode of torch.compile.")


@dataclass
class MemoryFields:
    """Trading time for memory."""

    activation_checkpointing: bool | None = arg(None, "Recompute activations in the backward pass.")
    activation_checkpointing_kwargs: dict[str, Any] | str | None = arg(None, "Its options.")
    gradient_checkpointing: bool | None = arg(None, "Older name of activation_checkpointing.")
    gradient_checkpointing_kwargs: dict[str, Any] | str | None = arg(None, "Older name of its options.")
    use_liger_kernel: bool = arg(False, "Replace layers by Liger kernels.")
    liger_kernel_config: dict[str, bool] | None = arg(None, "Which Liger kernels.")
    use_cache: bool = arg(
        False, "Written to model.config.use_cache: keep keys and values in the forward pass."
    )
    torch_empty_cache_steps: int | None = arg(None, "Return cached device memory every so many updates.")


@dataclass
class LoggingFields:
    """What is reported, where and when."""

    logging_strategy: IntervalStrategy | str = arg("steps", "When to log: no, steps, epoch.")
    logging_steps: float = arg(500, "Updates between two log rows, or their share of the run where below 1.")
    logging_first_step: bool = arg(False, "Log the first update too.")
    log_on_each_node: bool = arg(True, "Log on the first process of every machine.")
    logging_nan_inf_filter: bool = arg(
        True, "Accepted for compatibility: logged losses are always the true ones."
    )
    include_num_input_tokens_seen: str | bool = arg("no", "Count input tokens: all, non_padding or no.")
    log_level: str = arg("passive", "Log level of the main process.")
    log_level_replica: str = arg("warning", "Log level of the other processes.")
    disable_tqdm: bool | None = arg(None, "No progress bar; None: a bar where there is a terminal.")
    logging_dir: str | None = arg(None, "Folder of TensorBoard's files; an argument of version 4.")
    report_to: list[str] | str | None = arg("none", "Trackers that receive the log rows.")
    run_name: str | None = arg(None, "Name of the run for trackers.")
    project: str = arg("huggingface", "Project name for trackers.")
    trackio_space_id: str | None = arg(None, "Space of trackio.")
    trackio_bucket_id: str | None = arg(None, "Bucket of trackio.")
    trackio_static_space_id: Literal[False] | str | None = arg(None, "Static space of trackio.")


@dataclass
class EvaluationFields:
    """What is measured, and when."""

    eval_strategy: IntervalStrategy | str = arg("no", "When to evaluate: no, steps, epoch.")
    eval_steps: float | None = arg(
        None, "Updates between evaluations, or a share of the run; logging_steps if unset."
    )
    eval_delay: float = arg(0, "Updates or epochs, by eval_strategy, before the first evaluation.")
    prediction_loss_only: bool = arg(False, "Only the loss is returned by evaluation and prediction.")
    eval_on_start: bool = arg(False, "Evaluate once before the first update.")
    eval_do_concat_batches: bool = arg(True, "Join the batches' predictions; otherwise a list of batches.")
    eval_use_gather_object: bool = arg(False, "Gather nested Python objects between processes.")
    eval_accumulation_steps: int | None = arg(
        None, "Accepted for compatibility: predictions always leave the device."
    )
    include_for_metrics: list[str] = arg([], "More for compute_metrics: 'inputs', 'loss'.")
    batch_eval_metrics: bool = arg(False, "Call compute_metrics at every batch.")
    load_best_model_at_end: bool = arg(False, "Finish with the weights of the best evaluation.")
    metric_for_best_model: str | None = arg(None, "The metric that says which is best.")
    greater_is_better: bool | None = arg(None, "Whether a larger value of it is better.")


@dataclass
class SavingFields:
    """Checkpoints."""

    save_strategy: SaveStrategy | str = arg("steps", "When to save: no, steps, epoch, best.")
    save_steps: float | str = arg(
        500, "Updates between checkpoints, their share of the run where below 1, or a time such as '30min'."
    )
    save_total_limit: int | None = arg(
        None, "How many of the newest checkpoints to keep, the best one besides."
    )
    save_only_model: bool = arg(False, "Only weights: the checkpoint cannot be resumed from.")
    save_in_background: bool = arg(
        True, "Write checkpoints while the training goes on; it waits only until its state is copied."
    )
    on_save_error: SaveErrorPolicy | str = arg(
        "raise",
        "What happens when a checkpoint cannot be written (a full disk): `raise` stops, `continue` warns and goes on.",
    )
    save_on_each_node: bool = arg(False, "Every machine saves to its own disk.")
    save_on_signal: bool = arg(True, "SIGTERM, SIGINT and SIGUSR1 save a checkpoint, and then stop.")
    enable_jit_checkpoint: bool = arg(
        False, "The reference's name for it: true also saves where save_strategy is 'no'."
    )
    max_time: float | str | None = arg(
        None, "Stop in time, with a checkpoint: seconds, or a text such as '20h'."
    )
    restore_callback_states_from_checkpoint: bool = arg(True, "Resume the state of callbacks that have one.")
    ignore_data_skip: bool = arg(False, "Resume at the start of the epoch's data.")
    resume_with_fresh_optimizer: bool = arg(
        False, "Resume with a new optimizer and a new schedule, which begins at the checkpoint's step."
    )
    resume_from_checkpoint: str | None = arg(None, "For scripts: pass it on to Trainer.train().")


@dataclass
class DataFields:
    """How data is ordered and loaded."""

    dataloader_drop_last: bool = arg(False, "Leave out the samples that do not fill a last batch.")
    dataloader_num_workers: int | str = arg(
        0, "Processes that load data; 0 loads in the training process, 'auto' goes by the cores."
    )
    dataloader_pin_memory: bool = arg(True, "Load into page-locked memory where there is an accelerator.")
    dataloader_persistent_workers: bool = arg(False, "Keep the loading processes between epochs.")
    dataloader_prefetch_factor: int | None = arg(None, "Batches that each loading process keeps ready.")
    dataloader_multiprocessing_context: str | None = arg(None, "How to start them: fork, spawn, forkserver.")
    dataloader_in_order: bool = arg(True, "Deliver batches in order although a later one may be ready first.")
    remove_unused_columns: bool = arg(True, "Drop columns that the model's forward does not take.")
    label_names: list[str] | None = arg(
        None, "Keys of a batch that hold labels; inferred from forward if unset."
    )
    train_sampling_strategy: str = arg("random", "Order of training samples: random, sequential, ...")
    max_tokens_per_batch: int | None = arg(
        None,
        "Cut each global batch into micro-batches of samples of similar length, with at most so many padded tokens. "
        "The samples of an update, and its result, stay the same.",
    )
    global_train_batch_size: int | None = arg(
        None, "Samples of one update, of all processes; sets gradient_accumulation_steps."
    )
    packing: bool = arg(False, "Several samples in one row, kept apart from each other; nothing is padded.")
    packing_length: int | None = arg(None, "Tokens of such a row; those of the longest sample if unset.")
    length_column_name: str = arg("length", "Column with the samples' lengths.")
    mixing_weights: dict[str, float] | str | None = arg(
        None,
        "Shares in which the data sets of `train_dataset={name: dataset}` are read; their sizes if unset.",
    )
    mixing_temperature: float | None = arg(
        None, "Instead of weights: the shares are the sizes to the power of 1 / temperature."
    )
    mixing_stop: str = arg(
        "first_exhausted",
        "When an epoch of a mix ends: first_exhausted, all (each has been read at least once) or steps (max_steps).",
    )


@dataclass
class DistributedFields:
    """Several processes."""

    ddp_backend: str | None = arg(None, "Communication library; by device if unset (nccl, gloo).")
    ddp_timeout: int = arg(1800, "Seconds that a collective may take.")
    ddp_find_unused_parameters: bool | None = arg(None, "DistributedDataParallel's argument.")
    ddp_bucket_cap_mb: int | None = arg(None, "DistributedDataParallel's argument.")
    ddp_broadcast_buffers: bool | None = arg(None, "DistributedDataParallel's argument.")
    ddp_static_graph: bool | None = arg(None, "DistributedDataParallel's argument.")
    fsdp: str | None = arg(None, "Shard parameters over processes.")
    fsdp_config: dict[str, Any] | str | None = arg(None, "Options of fsdp.")
    deepspeed: dict[str, Any] | str | None = arg(None, "DeepSpeed configuration.")
    accelerator_config: Any = arg(
        None, "accelerate's options of data loaders: a dictionary, JSON or its path."
    )
    parallelism_config: Any = arg(None, "Tensor, context and sequence parallelism.")
    local_rank: int = arg(-1, "Accepted for launchers that pass it; the environment decides.")


@dataclass
class HubFields:
    """Sharing the model."""

    push_to_hub: bool = arg(False, "Push to a model hub.")
    hub_token: str | None = arg(None, "Its access token.")
    hub_private_repo: bool | None = arg(None, "Make the repository private.")
    hub_model_id: str | None = arg(None, "Its name.")
    hub_strategy: HubStrategy | str = arg("every_save", "What to push, and when.")
    hub_always_push: bool = arg(False, "Push although the last push has not finished.")
    hub_revision: str | None = arg(None, "Branch or tag to push to.")


@dataclass
class RunFields:
    """Seeds, device, failures, and flags for scripts."""

    seed: int = arg(42, "Seed of everything random.")
    data_seed: int | None = arg(None, "Seed of the sample order; `seed` if unset.")
    full_determinism: bool = arg(False, "Deterministic algorithms everywhere; slow.")
    use_cpu: bool = arg(False, "Use the CPU although there is an accelerator.")
    on_nonfinite: NonFinitePolicy | str = arg(
        "raise", "A NaN or infinite loss or gradient: raise, skip or log."
    )
    debug: str | list[str] = arg("", "Debugging aids.")
    skip_memory_metrics: bool = arg(True, "No memory figures in the metrics.")
    overwrite_output_dir: bool = arg(False, "For scripts of version 4: the Trainer does not look at it.")
    do_train: bool = arg(False, "For scripts: the Trainer does not look at it.")
    do_eval: bool = arg(False, "For scripts; set when eval_strategy is.")
    do_predict: bool = arg(False, "For scripts: the Trainer does not look at it.")
