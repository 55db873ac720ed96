"""Étude: the Trainer that PyTorch users know, small enough to read and with guarantees.

The public names are loaded on first use, so that `import etude` costs little more than `import torch`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "AcceleratorConfig": "etude.arguments.accelerate",
    "Adafactor": "etude.optim.adafactor",
    "AdafactorSchedule": "etude.optim.adafactor",
    "BatchRebalanceSampler": "etude.data.rebalance",
    "CallbackHandler": "etude.core.events",
    "DataCollator": "etude.data.collators",
    "DataCollatorForLanguageModeling": "etude.data.collators",
    "DataCollatorForMultipleChoice": "etude.data.collators",
    "DataCollatorForPermutationLanguageModeling": "etude.data.collators",
    "DataCollatorForSeq2Seq": "etude.data.collators",
    "DataCollatorForTokenClassification": "etude.data.collators",
    "DataCollatorForWholeWordMask": "etude.data.collators",
    "DataCollatorMixin": "etude.data.collators",
    "DataCollatorWithFlattening": "etude.data.collators",
    "DataCollatorWithPadding": "etude.data.collators",
    "DebugOption": "etude.core.names",
    "DebugUnderflowOverflow": "etude.guards.underflow",
    "DefaultDataCollator": "etude.data.collators",
    "DefaultFlowCallback": "etude.callbacks.flow",
    "DistributedLengthGroupedSampler": "etude.data.grouping",
    "DistributedSamplerWithLoop": "etude.data.divided",
    "EarlyStoppingCallback": "etude.callbacks.early_stopping",
    "EvalLoopOutput": "etude.core.outputs",
    "EvalPrediction": "etude.core.outputs",
    "EvaluationStrategy": "etude.utilities",
    "ExportableState": "etude.core.state",
    "GreedyLR": "etude.optim.greedy",
    "HubStrategy": "etude.core.names",
    "HfArg": "etude.arguments.parser",
    "HfArgumentParser": "etude.arguments.parser",
    "IntervalStrategy": "etude.core.names",
    "IterableDatasetShard": "etude.data.divided",
    "LabelSmoother": "etude.models.smoothing",
    "LengthGroupedSampler": "etude.data.grouping",
    "MixedDataset": "etude.data.mixing",
    "NotebookProgressCallback": "etude.callbacks.notebook",
    "OPTIMIZER_NAME": "etude.utilities",
    "OptimizerNames": "etude.core.names",
    "PREFIX_CHECKPOINT_DIR": "etude.utilities",
    "ParallelMode": "etude.core.names",
    "PredictionOutput": "etude.core.outputs",
    "PrinterCallback": "etude.callbacks.progress",
    "ProgressCallback": "etude.callbacks.progress",
    "RemoveColumnsCollator": "etude.utilities",
    "SCALER_NAME": "etude.utilities",
    "SCHEDULER_NAME": "etude.utilities",
    "SaveStrategy": "etude.core.names",
    "SchedulerType": "etude.core.names",
    "Seq2SeqTrainer": "etude.seq2seq",
    "Seq2SeqTrainingArguments": "etude.arguments.seq2seq",
    "ShardSampler": "etude.data.divided",
    "TRAINER_STATE_NAME": "etude.utilities",
    "TRAINING_ARGS_NAME": "etude.utilities",
    "TrainOutput": "etude.core.outputs",
    "Trainer": "etude.trainer",
    "TrainerCallback": "etude.core.events",
    "TrainerControl": "etude.core.state",
    "TrainerMemoryTracker": "etude.memory.tracker",
    "TrainerState": "etude.core.state",
    "TrainingArguments": "etude.arguments",
    "default_data_collator": "etude.data.collators",
    "denumpify_detensorize": "etude.utilities",
    "distributed_concat": "etude.utilities",
    "enable_full_determinism": "etude.core.rng",
    "find_batch_size": "etude.utilities",
    "find_executable_batch_size": "etude.guards.oom",
    "get_adafactor_schedule": "etude.optim.adafactor",
    "get_constant_schedule": "etude.optim.schedules",
    "get_constant_schedule_with_warmup": "etude.optim.schedules",
    "get_cosine_schedule_with_warmup": "etude.optim.schedules",
    "get_cosine_with_hard_restarts_schedule_with_warmup": "etude.optim.schedules",
    "get_cosine_with_min_lr_schedule_with_warmup": "etude.optim.schedules",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate": "etude.optim.schedules",
    "get_greedy_schedule": "etude.optim.schedules",
    "get_inverse_sqrt_schedule": "etude.optim.schedules",
    "get_last_checkpoint": "etude.checkpoint.store",
    "get_length_grouped_indices": "etude.data.grouping",
    "get_linear_schedule_with_warmup": "etude.optim.schedules",
    "get_model_param_count": "etude.utilities",
    "get_parameter_names": "etude.utilities",
    "get_polynomial_decay_schedule_with_warmup": "etude.optim.schedules",
    "get_reduce_on_plateau_schedule": "etude.optim.schedules",
    "get_scheduler": "etude.optim.schedules",
    "get_wsd_schedule": "etude.optim.schedules",
    "has_length": "etude.data.loader",
    "is_main_process": "etude.utilities",
    "nested_concat": "etude.utilities",
    "nested_detach": "etude.utilities",
    "nested_gather": "etude.utilities",
    "nested_numpify": "etude.utilities",
    "nested_truncate": "etude.utilities",
    "number_of_arguments": "etude.utilities",
    "rotate_checkpoints": "etude.utilities",
    "seed_worker": "etude.core.rng",
    "set_seed": "etude.core.rng",
    "sort_checkpoints": "etude.utilities",
    "speed_metrics": "etude.core.speed",
    "torch_distributed_zero_first": "etude.utilities",
}
__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from etude.arguments import TrainingArguments as TrainingArguments
    from etude.arguments.accelerate import AcceleratorConfig as AcceleratorConfig
    from etude.arguments.parser import HfArg as HfArg
    from etude.arguments.parser import HfArgumentParser as HfArgumentParser
    from etude.arguments.seq2seq import Seq2SeqTrainingArguments as Seq2SeqTrainingArguments
    from etude.callbacks.early_stopping import EarlyStoppingCallback as EarlyStoppingCallback
    from etude.callbacks.flow import DefaultFlowCallback as DefaultFlowCallback
    from etude.callbacks.notebook import NotebookProgressCallback as NotebookProgressCallback
    from etude.callbacks.progress import PrinterCallback as PrinterCallback
    from etude.callbacks.progress import ProgressCallback as ProgressCallback
    from etude.checkpoint.store import get_last_checkpoint as get_last_checkpoint
    from etude.core.events import CallbackHandler as CallbackHandler
    from etude.core.events import TrainerCallback as TrainerCallback
    from etude.core.names import DebugOption as DebugOption
    from etude.core.names import HubStrategy as HubStrategy
    from etude.core.names import IntervalStrategy as IntervalStrategy
    from etude.core.names import OptimizerNames as OptimizerNames
    from etude.core.names import ParallelMode as ParallelMode
    from etude.core.names import SaveStrategy as SaveStrategy
    from etude.core.names import SchedulerType as SchedulerType
    from etude.core.outputs import EvalLoopOutput as EvalLoopOutput
    from etude.core.outputs import EvalPrediction as EvalPrediction
    from etude.core.outputs import PredictionOutput as PredictionOutput
    from etude.core.outputs import TrainOutput as TrainOutput
    from etude.core.rng import enable_full_determinism as enable_full_determinism
    from etude.core.rng import seed_worker as seed_worker
    from etude.core.rng import set_seed as set_seed
    from etude.core.speed import speed_metrics as speed_metrics
    from etude.core.state import ExportableState as ExportableState
    from etude.core.state import TrainerControl as TrainerControl
    from etude.core.state import TrainerState as TrainerState
    from etude.data.collators import DataCollator as DataCollator
    from etude.data.collators import DataCollatorForLanguageModeling as DataCollatorForLanguageModeling
    from etude.data.collators import DataCollatorForMultipleChoice as DataCollatorForMultipleChoice
    from etude.data.collators import (
        DataCollatorForPermutationLanguageModeling as DataCollatorForPermutationLanguageModeling,
    )
    from etude.data.collators import DataCollatorForSeq2Seq as DataCollatorForSeq2Seq
    from etude.data.collators import DataCollatorForTokenClassification as DataCollatorForTokenClassification
    from etude.data.collators import DataCollatorForWholeWordMask as DataCollatorForWholeWordMask
    from etude.data.collators import DataCollatorMixin as DataCollatorMixin
    from etude.data.collators import DataCollatorWithFlattening as DataCollatorWithFlattening
    from etude.data.collators import DataCollatorWithPadding as DataCollatorWithPadding
    from etude.data.collators import DefaultDataCollator as DefaultDataCollator
    from etude.data.collators import default_data_collator as default_data_collator
    from etude.data.divided import DistributedSamplerWithLoop as DistributedSamplerWithLoop
    from etude.data.divided import IterableDatasetShard as IterableDatasetShard
    from etude.data.divided import ShardSampler as ShardSampler
    from etude.data.grouping import DistributedLengthGroupedSampler as DistributedLengthGroupedSampler
    from etude.data.grouping import LengthGroupedSampler as LengthGroupedSampler
    from etude.data.grouping import get_length_grouped_indices as get_length_grouped_indices
    from etude.data.loader import has_length as has_length
    from etude.data.mixing import MixedDataset as MixedDataset
    from etude.data.rebalance import BatchRebalanceSampler as BatchRebalanceSampler
    from etude.guards.oom import find_executable_batch_size as find_executable_batch_size
    from etude.guards.underflow import DebugUnderflowOverflow as DebugUnderflowOverflow
    from etude.memory.tracker import TrainerMemoryTracker as TrainerMemoryTracker
    from etude.models.smoothing import LabelSmoother as LabelSmoother
    from etude.optim.adafactor import Adafactor as Adafactor
    from etude.optim.adafactor import AdafactorSchedule as AdafactorSchedule
    from etude.optim.adafactor import get_adafactor_schedule as get_adafactor_schedule
    from etude.optim.greedy import GreedyLR as GreedyLR
    from etude.optim.schedules import get_constant_schedule as get_constant_schedule
    from etude.optim.schedules import get_constant_schedule_with_warmup as get_constant_schedule_with_warmup
    from etude.optim.schedules import get_cosine_schedule_with_warmup as get_cosine_schedule_with_warmup
    from etude.optim.schedules import (
        get_cosine_with_hard_restarts_schedule_with_warmup as get_cosine_with_hard_restarts_schedule_with_warmup,
    )
    from etude.optim.schedules import (
        get_cosine_with_min_lr_schedule_with_warmup as get_cosine_with_min_lr_schedule_with_warmup,
    )
    from etude.optim.schedules import (
        get_cosine_with_min_lr_schedule_with_warmup_lr_rate as get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    )
    from etude.optim.schedules import get_greedy_schedule as get_greedy_schedule
    from etude.optim.schedules import get_inverse_sqrt_schedule as get_inverse_sqrt_schedule
    from etude.optim.schedules import get_linear_schedule_with_warmup as get_linear_schedule_with_warmup
    from etude.optim.schedules import (
        get_polynomial_decay_schedule_with_warmup as get_polynomial_decay_schedule_with_warmup,
    )
    from etude.optim.schedules import get_reduce_on_plateau_schedule as get_reduce_on_plateau_schedule
    from etude.optim.schedules import get_scheduler as get_scheduler
    from etude.optim.schedules import get_wsd_schedule as get_wsd_schedule
    from etude.seq2seq import Seq2SeqTrainer as Seq2SeqTrainer
    from etude.trainer import Trainer as Trainer
    from etude.utilities import OPTIMIZER_NAME as OPTIMIZER_NAME
    from etude.utilities import PREFIX_CHECKPOINT_DIR as PREFIX_CHECKPOINT_DIR
    from etude.utilities import SCALER_NAME as SCALER_NAME
    from etude.utilities import SCHEDULER_NAME as SCHEDULER_NAME
    from etude.utilities import TRAINER_STATE_NAME as TRAINER_STATE_NAME
    from etude.utilities import TRAINING_ARGS_NAME as TRAINING_ARGS_NAME
    from etude.utilities import EvaluationStrategy as EvaluationStrategy
    from etude.utilities import RemoveColumnsCollator as RemoveColumnsCollator
    from etude.utilities import denumpify_detensorize as denumpify_detensorize
    from etude.utilities import distributed_concat as distributed_concat
    from etude.utilities import find_batch_size as find_batch_size
    from etude.utilities import get_model_param_count as get_model_param_count
    from etude.utilities import get_parameter_names as get_parameter_names
    from etude.utilities import is_main_process as is_main_process
    from etude.utilities import nested_concat as nested_concat
    from etude.utilities import nested_detach as nested_detach
    from etude.utilities import nested_gather as nested_gather
    from etude.utilities import nested_numpify as nested_numpify
    from etude.utilities import nested_truncate as nested_truncate
    from etude.utilities import number_of_arguments as number_of_arguments
    from etude.utilities import rotate_checkpoints as rotate_checkpoints
    from etude.utilities import sort_checkpoints as sort_checkpoints
    from etude.utilities import torch_distributed_zero_first as torch_distributed_zero_first


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
