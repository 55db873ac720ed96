"""Étude: the Trainer that PyTorch users know, small enough to read and with guarantees.

The public names are loaded on first use, so that `import etude` costs little more than `import torch`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "DataCollatorWithPadding": "etude.data.collators",
    "DefaultDataCollator": "etude.data.collators",
    "DefaultFlowCallback": "etude.callbacks.flow",
    "EarlyStoppingCallback": "etude.callbacks.early_stopping",
    "EvalPrediction": "etude.core.outputs",
    "IntervalStrategy": "etude.core.names",
    "PredictionOutput": "etude.core.outputs",
    "PrinterCallback": "etude.callbacks.progress",
    "ProgressCallback": "etude.callbacks.progress",
    "SaveStrategy": "etude.core.names",
    "SchedulerType": "etude.core.names",
    "TrainOutput": "etude.core.outputs",
    "Trainer": "etude.trainer",
    "TrainerCallback": "etude.core.events",
    "TrainerControl": "etude.core.state",
    "TrainerState": "etude.core.state",
    "TrainingArguments": "etude.arguments",
    "default_data_collator": "etude.data.collators",
    "get_last_checkpoint": "etude.checkpoint.store",
    "set_seed": "etude.core.rng",
}
__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from etude.arguments import TrainingArguments as TrainingArguments
    from etude.callbacks.early_stopping import EarlyStoppingCallback as EarlyStoppingCallback
    from etude.callbacks.flow import DefaultFlowCallback as DefaultFlowCallback
    from etude.callbacks.progress import PrinterCallback as PrinterCallback
    from etude.callbacks.progress import ProgressCallback as ProgressCallback
    from etude.checkpoint.store import get_last_checkpoint as get_last_checkpoint
    from etude.core.events import TrainerCallback as TrainerCallback
    from etude.core.names import IntervalStrategy as IntervalStrategy
    from etude.core.names import SaveStrategy as SaveStrategy
    from etude.core.names import SchedulerType as SchedulerType
    from etude.core.outputs import EvalPrediction as EvalPrediction
    from etude.core.outputs import PredictionOutput as PredictionOutput
    from etude.core.outputs import TrainOutput as TrainOutput
    from etude.core.rng import set_seed as set_seed
    from etude.core.state import TrainerControl as TrainerControl
    from etude.core.state import TrainerState as TrainerState
    from etude.data.collators import DataCollatorWithPadding as DataCollatorWithPadding
    from etude.data.collators import DefaultDataCollator as DefaultDataCollator
    from etude.data.collators import default_data_collator as default_data_collator
    from etude.trainer import Trainer as Trainer


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("etude")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'etude' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
