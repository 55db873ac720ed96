"""What users set on a training, one function from case to case each, to be joined with a kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import IterableDataset

from tests import helpers
from tests.parity.runner import Case

Option = Callable[[Case], Case]

WINDOWS = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
EVERY_3 = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "accuracy"}


def args(**fields: Any) -> Option:
    """Only training arguments."""
    return lambda case: case.having(**fields)


def changed(option: Option = lambda case: case, **fields: Any) -> Option:
    """Fields of the case itself."""
    return lambda case: replace(option(case), **fields)


def made(make: Callable[[ModuleType, nn.Module], Mapping[str, Any]], **fields: Any) -> Option:
    """Arguments of the ``Trainer`` that are built from the library and the model."""
    return lambda case: replace(case.having(**fields), made=make)


# --- what users hand over ----------------------------------------------------------------------------------------


class FeatureStream(IterableDataset):
    """Rows without a length."""

    def __init__(self, count: int = 24) -> None:
        self.count = count

    def __iter__(self) -> Any:
        yield from helpers.feature_rows(self.count, seed=4).rows


def arrow_rows(count: int, seed: int) -> Any:
    """Texts as a ``datasets.Dataset``, with columns that no model takes."""
    from datasets import Dataset

    rows = helpers.text_rows(count, seed).rows
    return Dataset.from_list([{**row, "identity": i, "note": f"row {i}"} for i, row in enumerate(rows)])


class BatchwiseAccuracy:
    """A metric that is told batch by batch, and asked at the last one."""

    def __init__(self) -> None:
        self.hits: list[float] = []

    def __call__(self, prediction: Any, compute_result: bool) -> dict[str, float]:
        hits = prediction.predictions.argmax(-1) == prediction.label_ids
        self.hits += torch.as_tensor(hits).flatten().tolist()
        if not compute_result:
            return {}
        result = {"accuracy": float(np.mean(self.hits))}
        self.hits = []
        return result


def per_batch_accuracy(prediction: Any) -> dict[str, float]:
    """Accuracy of predictions that come as a list of batches."""
    batches = zip(prediction.predictions, prediction.label_ids, strict=True)
    return {"accuracy": float(np.mean([(scores.argmax(-1) == labels).mean() for scores, labels in batches]))}


def metrics_with_extras(prediction: Any) -> dict[str, float]:
    """Accuracy, and sums over what ``include_for_metrics`` adds."""
    sums = {"inputs": float(np.sum(prediction.inputs)), "losses": float(np.sum(prediction.losses))}
    return {**helpers.accuracy((prediction.predictions, prediction.label_ids)), **sums}


def classes_only(logits: Any, labels: Any) -> Any:
    """Scores reduced to classes."""
    return (logits[0] if isinstance(logits, tuple) else logits).argmax(-1)


def accuracy_of_classes(prediction: Any) -> dict[str, float]:
    """Accuracy of classes that were reduced before."""
    return {"accuracy": float((prediction.predictions == prediction.label_ids).mean())}


def divided_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    """A loss as the reference asks for it: a sum, divided by the items of the whole update."""
    total = nn.functional.cross_entropy(outputs["logits"], labels, label_smoothing=0.1, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def own_optimizers(lib: ModuleType, model: nn.Module) -> dict[str, Any]:
    """An optimizer and a schedule of PyTorch's own."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    return {"optimizers": (optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5))}


def own_optimizer_only(lib: ModuleType, model: nn.Module) -> dict[str, Any]:
    """An optimizer in two groups; the schedule is the Trainer's."""
    parameters = list(model.parameters())
    groups = [{"params": parameters[:2], "lr": 0.1}, {"params": parameters[2:]}]
    return {"optimizers": (torch.optim.Adam(groups, lr=0.02), None)}


def optimizer_class(lib: ModuleType, model: nn.Module) -> dict[str, Any]:
    """A class and its arguments."""
    return {"optimizer_cls_and_kwargs": (torch.optim.NAdam, {"lr": 0.01, "momentum_decay": 0.01})}


def early_stopping(lib: ModuleType, model: nn.Module) -> dict[str, Any]:
    """Stops after two evaluations that are no better by a hundredth."""
    stopping = lib.EarlyStoppingCallback(early_stopping_patience=2, early_stopping_threshold=0.01)
    return {"callbacks": [stopping]}


def steering(lib: ModuleType, model: nn.Module) -> dict[str, Any]:
    """A callback that asks for rows, evaluations, checkpoints, and the end."""

    class Steering(lib.TrainerCallback):  # type: ignore[name-defined, misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_log = state.global_step % 2 == 0
            control.should_evaluate = state.global_step == 3
            control.should_save = state.global_step in (4, 5)
            control.should_training_stop = state.global_step == 9
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if state.log_history:
                state.log_history[-1]["noticed"] = float(len(logs))

    return {"callbacks": [Steering]}


def made_anew(case: Case) -> Case:
    """A function that makes the model, in place of the model."""
    return replace(case, made=lambda lib, model: {"model": None, "model_init": lambda: case.model()})


def two_sets(case: Case) -> Case:
    """Two evaluation sets with names."""
    return replace(case, eval_rows=lambda: {"seen": case.train_rows(), "held": helpers.feature_rows(10, 8)})


# --- the options, by topic ---------------------------------------------------------------------------------------

STEPS: dict[str, Option] = {
    "accumulated": args(**WINDOWS, logging_steps=2),
    "short-window": args(per_device_train_batch_size=2, gradient_accumulation_steps=5),
    "unclipped": args(max_grad_norm=0.0),
    "clipped": args(max_grad_norm=0.1),
    "fractional-epochs": args(num_train_epochs=1.4, **WINDOWS),
    "max-steps": args(max_steps=9, num_train_epochs=1),
    "drop-last": args(per_device_train_batch_size=5, dataloader_drop_last=True, eval_strategy="no"),
    "sequential": args(train_sampling_strategy="sequential"),
    "data-seed": args(data_seed=31, seed=5),
    "loading-processes": args(dataloader_num_workers=2, dataloader_prefetch_factor=1),
    "tokens": args(include_num_input_tokens_seen=True, **WINDOWS),
    "tokens-without-padding": args(include_num_input_tokens_seen="non_padding"),
    "own-count": args(average_tokens_across_devices=False, **WINDOWS),
    "bar": args(disable_tqdm=False),
    "memory-figures": args(skip_memory_metrics=False, eval_strategy="epoch"),
    "stream": changed(args(max_steps=8, per_device_train_batch_size=4), train_rows=FeatureStream),
    "arrow": changed(
        args(remove_unused_columns=True),
        train_rows=lambda: arrow_rows(24, 1),
        eval_rows=lambda: arrow_rows(19, 2),
    ),
    "labels-named": args(label_names=["labels"], eval_strategy="epoch"),
}
SCHEDULES: dict[str, Option] = {
    "cosine-warmup": args(lr_scheduler_type="cosine", warmup_steps=3),
    "constant": args(lr_scheduler_type="constant"),
    "constant-warmup-ratio": args(lr_scheduler_type="constant_with_warmup", warmup_steps=0.3),
    "restarts": args(lr_scheduler_type="cosine_with_restarts", lr_scheduler_kwargs={"num_cycles": 2}),
    "polynomial": args(lr_scheduler_type="polynomial", lr_scheduler_kwargs={"power": 2.0, "lr_end": 1e-4}),
    "inverse-sqrt": args(lr_scheduler_type="inverse_sqrt", warmup_steps=2),
    "min-lr": args(lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr": 1e-3}),
    "min-lr-warmup": args(
        lr_scheduler_type="cosine_warmup_with_min_lr", warmup_steps=3, lr_scheduler_kwargs={"min_lr_rate": 0.2}
    ),
    "stable-decay": args(
        lr_scheduler_type="warmup_stable_decay", warmup_steps=2, lr_scheduler_kwargs={"num_decay_steps": 5}
    ),
    "plateau": args(
        lr_scheduler_type="reduce_lr_on_plateau", lr_scheduler_kwargs={"patience": 0}, eval_strategy="steps",
        eval_steps=2, metric_for_best_model="loss", greater_is_better=False, num_train_epochs=3, learning_rate=0.3,
    ),
    "greedy": args(lr_scheduler_type="greedy", eval_strategy="steps", eval_steps=2, metric_for_best_model="loss"),
}  # fmt: skip
OPTIMIZERS: dict[str, Option] = {
    "adamw": args(optim="adamw_torch", weight_decay=0.1, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6),
    "sgd": args(optim="sgd", learning_rate=0.1),
    "adagrad": args(optim="adagrad"),
    "rmsprop": args(optim="rmsprop", optim_args="momentum=0.5,alpha=0.9", learning_rate=1e-3),
    "adafactor": args(optim="adafactor", weight_decay=0.05, learning_rate=1e-3),
    "own-optimizers": made(own_optimizers),
    "own-optimizer": made(own_optimizer_only),
    "optimizer-class": made(optimizer_class),
}
MODELS: dict[str, Option] = {
    "smoothed": args(label_smoothing_factor=0.1, eval_strategy="epoch", learning_rate=1e-3),
    "smoothed-accumulated": args(label_smoothing_factor=0.2, **WINDOWS),
    "noisy": args(neftune_noise_alpha=5.0, optim="sgd"),
    "recomputed": args(activation_checkpointing=True),
    "recomputed-every-second": args(
        activation_checkpointing=True, activation_checkpointing_kwargs={"every_n_layers": 2}
    ),
    "compiled-eager": args(torch_compile=True, torch_compile_backend="eager"),
    "compiled-aot": args(torch_compile=True, torch_compile_backend="aot_eager"),
    "bf16": args(bf16=True, eval_strategy="epoch", **WINDOWS),
    "bf16-evaluation": args(bf16_full_eval=True),
    "own-loss": changed(args(**WINDOWS), trainer_options={"compute_loss_func": divided_loss}),
    "made-anew": made_anew,
}
EVALUATIONS: dict[str, Option] = {
    "evaluated-first": args(eval_on_start=True, eval_strategy="steps", eval_steps=5),
    "evaluated-late": args(eval_strategy="steps", eval_steps=2, eval_delay=5),
    "evaluated-late-epochs": args(eval_strategy="epoch", eval_delay=2, num_train_epochs=3),
    "evaluated-by-ratio": args(eval_strategy="steps", eval_steps=0.25, logging_steps=0.2),
    "logged-first": args(logging_first_step=True, logging_steps=5),
    "logged-by-epoch": args(logging_strategy="epoch"),
    "not-logged": args(logging_strategy="no"),
    "batchwise": changed(args(batch_eval_metrics=True, eval_strategy="epoch"), compute_metrics=BatchwiseAccuracy()),
    "kept-apart": changed(
        args(eval_do_concat_batches=False, eval_strategy="epoch"), compute_metrics=per_batch_accuracy
    ),
    "reduced": changed(
        args(eval_strategy="epoch"),
        compute_metrics=accuracy_of_classes,
        trainer_options={"preprocess_logits_for_metrics": classes_only},
    ),
    "extras": changed(
        args(eval_strategy="epoch", include_for_metrics=["inputs", "loss"]), compute_metrics=metrics_with_extras
    ),
    "left-at-once": args(eval_accumulation_steps=1, eval_use_gather_object=True, eval_strategy="epoch"),
    "loss-only": args(prediction_loss_only=True, eval_strategy="epoch"),
    "two-sets": lambda case: two_sets(case).having(eval_strategy="epoch", metric_for_best_model="held_accuracy"),
}  # fmt: skip
SAVINGS: dict[str, Option] = {
    "saved-by-steps": args(**EVERY_3),
    "saved-by-epoch": args(save_strategy="epoch", eval_strategy="epoch"),
    "saved-by-ratio": args(save_strategy="steps", save_steps=0.34),
    "best-at-end": args(**EVERY_3, **BEST, learning_rate=0.3),
    "lowest-at-end": args(**{**EVERY_3, **BEST, "metric_for_best_model": "loss"}, learning_rate=0.3),
    "worst-at-end": args(**EVERY_3, **BEST, greater_is_better=False, save_total_limit=1),
    "only-best": args(
        save_strategy="best", eval_strategy="steps", eval_steps=2, metric_for_best_model="accuracy"
    ),
    "saved-to-restart": args(**EVERY_3, ignore_data_skip=True),
    "limited": args(**EVERY_3, save_total_limit=2),
    "stopped-early": made(early_stopping, **{**EVERY_3, **BEST}, learning_rate=0.3, num_train_epochs=6),
    "steered": made(steering, num_train_epochs=3),
}
# Not here: sampling by length, whose order the reference draws from the global random stream and étude from the seed.
OPTIONS = {**STEPS, **SCHEDULES, **OPTIMIZERS, **MODELS, **EVALUATIONS, **SAVINGS}
