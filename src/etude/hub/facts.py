"""What a Trainer knows of its model, for the card: where it comes from, its results, how it was trained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.optional import is_instance_of
from etude.report.history import evaluations

# Identifiers of tasks, and the names of transformers' tables of the classes that do them.
TASKS = {
    "text-generation": ("CAUSAL_LM",),
    "image-classification": ("IMAGE_CLASSIFICATION",),
    "image-segmentation": ("IMAGE_SEGMENTATION",),
    "fill-mask": ("MASKED_LM",),
    "object-detection": ("OBJECT_DETECTION",),
    "question-answering": ("QUESTION_ANSWERING",),
    "text2text-generation": ("SEQ_TO_SEQ_CAUSAL_LM",),
    "text-classification": ("SEQUENCE_CLASSIFICATION",),
    "table-question-answering": ("TABLE_QUESTION_ANSWERING",),
    "token-classification": ("TOKEN_CLASSIFICATION",),
    "audio-classification": ("AUDIO_CLASSIFICATION",),
    "automatic-speech-recognition": ("CTC", "SPEECH_SEQ_2_SEQ"),
    "zero-shot-image-classification": ("ZERO_SHOT_IMAGE_CLASSIFICATION",),
    "image-text-to-text": ("IMAGE_TEXT_TO_TEXT",),
}
_FILE_FORMATS = ("csv", "json", "pandas", "parquet", "text")  # builders of `datasets` that name no data set


@dataclass
class Facts:
    """The content of a card.

    Attributes:
        library_name: the library that loads the model; None for a module of one's own.
        results: metrics of the last evaluation, by the name that is shown.
        steps: updates before that evaluation.
        progress: one row an evaluation: epoch, step, losses and metrics.
    """

    model_name: str
    library_name: str | None
    language: list[str]
    license: str | None
    tags: list[str]
    finetuned_from: str | None
    tasks: list[str]
    dataset: list[str]
    dataset_tags: list[str]
    dataset_args: list[str]
    dataset_metadata: list[dict[str, Any]]
    hyperparameters: dict[str, Any]
    results: dict[str, float]
    steps: int
    progress: list[dict[str, Any]]


def gather(trainer: Any, given: Any) -> Facts:
    """What is given, completed by what the trainer tells."""
    tags, args, origins = _data_source(trainer, given)
    rows = evaluations(trainer.state.log_history)
    last = rows[-1] if rows else {}
    finetuned_from = base_model(trainer.model) if given.finetuned_from is None else given.finetuned_from
    return Facts(
        model_name=given.model_name or Path(str(trainer.args.output_dir)).name or finetuned_from or "model",
        library_name=_library(trainer.model),
        language=[given.language] if isinstance(given.language, str) else list(given.language or ()),
        license=given.license,
        tags=list(dict.fromkeys([*given.tags, "generated_from_trainer"])),
        finetuned_from=finetuned_from or None,
        tasks=given.tasks or task_of(trainer.model),
        dataset=given.dataset or tags,
        dataset_tags=tags,
        dataset_args=args,
        dataset_metadata=origins,
        hyperparameters=hyperparameters(trainer.args),
        results={
            name: value for name, value in last.items() if name not in ("Epoch", "Step", "Training Loss")
        },
        steps=last.get("Step", 0),
        progress=rows if trainer.state.global_step else [],
    )


def _library(model: Any) -> str | None:
    if is_instance_of(model, "peft", "PeftModel"):
        return "peft"
    return "transformers" if is_instance_of(model, "transformers", "PreTrainedModel") else None


def base_model(model: Any) -> str | None:
    """The name on the hub of the model that this one was made from; None for a local folder, or none."""
    name = getattr(getattr(model, "config", None), "_name_or_path", None)
    return None if not name or os.path.isdir(name) else str(name)


def task_of(model: Any) -> list[str]:
    """The task of a transformers model, by its class."""
    if not is_instance_of(model, "transformers", "PreTrainedModel"):
        return []
    from transformers.models.auto import modeling_auto  # there already: the model is one of its

    name = type(model).__name__
    found = [
        task
        for task, tables in TASKS.items()
        for table in tables
        if name in _classes(getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES", {}))
    ]
    return found[-1:]


def _classes(table: Any) -> set[str]:
    return {name for entry in table.values() for name in ([entry] if isinstance(entry, str) else entry)}


def _data_source(trainer: Any, given: Any) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Identifiers, configurations and splits of the data: as given, else as a `datasets.Dataset` from a hub tells."""
    data = trainer.eval_dataset if trainer.eval_dataset is not None else trainer.train_dataset
    name = None
    if is_instance_of(data, "datasets", "Dataset", "IterableDataset"):
        name = data.builder_name
    if name is None or name in _FILE_FORMATS:
        return given.dataset_tags, given.dataset_args, []
    return (
        given.dataset_tags or [name],
        given.dataset_args or [data.config_name],
        [{"config": data.config_name, "split": str(data.split)}],
    )


def hyperparameters(args: Any) -> dict[str, Any]:
    """The arguments that say how the weights came about; those that had no effect are left out."""
    updates = args.gradient_accumulation_steps
    total = args.train_batch_size * args.world_size * updates
    adam = (
        f", betas ({args.adam_beta1}, {args.adam_beta2}), epsilon {args.adam_epsilon}"
        if "adam" in args.optim
        else ""
    )
    rows = {
        "learning rate": f"{args.learning_rate:g}",
        "schedule": str(args.lr_scheduler_type),
        "warm-up steps": args.warmup_steps or None,
        "optimizer": f"{args.optim}{adam}{f', {args.optim_args}' if args.optim_args else ''}",
        "weight decay": args.weight_decay or None,
        "gradient clipping": args.max_grad_norm or None,
        "label smoothing": args.label_smoothing_factor or None,
        "train batch size": args.train_batch_size,
        "eval batch size": args.eval_batch_size,
        "gradient accumulation steps": updates if updates > 1 else None,
        "processes": args.world_size if args.world_size > 1 else None,
        "total train batch size": total if total != args.train_batch_size else None,
        "steps": args.max_steps if args.max_steps > 0 else None,
        "epochs": None if args.max_steps > 0 else args.num_train_epochs,
        "mixed precision": "bf16" if args.bf16 else "fp16" if args.fp16 else None,
        "seed": args.seed,
    }
    return {name: value for name, value in rows.items() if value is not None}
