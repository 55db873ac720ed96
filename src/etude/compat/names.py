"""Which names of transformers become etude's: a table."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import etude

# Modules of transformers that hold the names, besides `trainer` and `trainer_seq2seq`, which are replaced as a whole.
HOLDERS = (
    "transformers.training_args",
    "transformers.training_args_seq2seq",
    "transformers.trainer_callback",
    "transformers.trainer_utils",
    "transformers.trainer_pt_utils",
    "transformers.data.data_collator",
    "transformers.hf_argparser",
)
# Never imported while compat is installed: stubs stand in their place, with these names of etude's in them.
REPLACED = {
    "transformers.trainer": ("Trainer",),
    "transformers.trainer_seq2seq": ("Seq2SeqTrainer",),
}
# Names that etude does not export itself, and where it keeps them.
INTERNAL = {
    "AcceleratorConfig": "etude.arguments.accelerate",
    "CallbackHandler": "etude.core.events",
    "EvalLoopOutput": "etude.core.outputs",
    "ExportableState": "etude.core.state",
    "HubStrategy": "etude.core.names",
    "ParallelMode": "etude.core.names",
}
# Whoever holds one of these from before the installation would go on with transformers' Trainer.
STRICT = ("Trainer", "TrainingArguments", "Seq2SeqTrainer", "Seq2SeqTrainingArguments")
# File names of a checkpoint, as `transformers.trainer` has them.
CONSTANTS = {
    "TRAINING_ARGS_NAME": "training_args.bin",
    "TRAINER_STATE_NAME": "trainer_state.json",
    "OPTIMIZER_NAME": "optimizer.pt",
    "OPTIMIZER_NAME_BIN": "optimizer.bin",
    "SCALER_NAME": "scaler.pt",
    "SCHEDULER_NAME": "scheduler.pt",
}


def own(name: str) -> Any:
    """The object of that name in etude."""
    if name in INTERNAL:
        return getattr(importlib.import_module(INTERNAL[name]), name)
    return getattr(etude, name)


def replaceable(holder: ModuleType) -> list[str]:
    """Names that `holder` defines itself and etude has too."""
    ours = {*INTERNAL, *etude.__all__}
    return sorted(
        name
        for name, value in vars(holder).items()
        if name in ours and getattr(value, "__module__", None) == holder.__name__
    )
