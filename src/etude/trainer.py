"""`Trainer`: the façade, and the one place that chooses concrete parts.

Where things happen: `facade` has the methods that users override, `training` puts the parts of a run together,
`loops.train` runs the epochs, `loops.step` is one update, `loops.evaluate` an evaluation, `saving` and `checkpoint`
write and read files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from etude import construction, overriding, preparation, saving, training
from etude.arguments import TrainingArguments
from etude.callbacks.flow import DefaultFlowCallback
from etude.callbacks.notebook import NotebookProgressCallback, in_notebook
from etude.callbacks.progress import PrinterCallback, ProgressCallback, shows_bar
from etude.checkpoint.remote import Mirror
from etude.checkpoint.store import CheckpointStore
from etude.checkpoint.writer import CheckpointWriter
from etude.core import signature
from etude.core.events import CallbackHandler
from etude.core.names import SaveErrorPolicy
from etude.core.outputs import TrainOutput
from etude.core.state import TrainerControl, TrainerState
from etude.data.collators import DataCollatorWithPadding, default_data_collator
from etude.engine import Engine
from etude.facade.data import DataMethods
from etude.facade.evaluation import EvaluationMethods
from etude.facade.hub import HubMethods
from etude.facade.loop import LoopMethods
from etude.facade.mixing import mix_fits
from etude.facade.optim import OptimizerMethods
from etude.facade.results import ResultMethods
from etude.facade.steps import StepMethods
from etude.loops.accumulate import Accumulation
from etude.memory.tracker import measured_from_here
from etude.models.compiling import Compilation
from etude.models.neftune import noisy_embeddings
from etude.optional import is_instance_of
from etude.precision import select_precision, select_tf32
from etude.strategies.base import Strategy
from etude.strategies.ddp import DDPSettings
from etude.strategies.select import select_strategy
from etude.trackers.jsonl import LogFileCallback


class Trainer(
    StepMethods,
    EvaluationMethods,
    DataMethods,
    OptimizerMethods,
    HubMethods,
    ResultMethods,
    LoopMethods,
):
    """Trains, evaluates and runs a PyTorch model.

    Args:
        model: any module whose forward takes the batch's keys as keywords and returns a loss: in a dictionary under
            "loss", as the first of a tuple, or in a transformers output.
        args: how; the defaults, in the folder "tmp_trainer", if not given.
        data_collator: makes a batch of a list of samples; pads with the tokenizer where `processing_class` is one, and
            stacks otherwise.
        train_dataset: a map-style or iterable data set, or a `datasets.Dataset`; or a dictionary of several by name,
            which are mixed.
        eval_dataset: likewise, or a dictionary of several.
        processing_class: the tokenizer or processor, saved with the model.
        model_init: makes the model anew for each training, instead of `model`; may take the trial of a search.
        compute_loss_func: `f(outputs, labels, num_items_in_batch=...)` in place of the model's own loss.
        compute_metrics: from an `EvalPrediction` to a dictionary of numbers.
        callbacks: instances or classes, after the built-in ones.
        optimizers: a ready optimizer and schedule; either may be None.
        optimizer_cls_and_kwargs: an optimizer class and its keyword arguments, instead of `args.optim`.
        preprocess_logits_for_metrics: applied to the outputs of each evaluated batch before they are kept.
        tokenizer: older name of `processing_class`.

    Raises:
        EtudeError: something does not fit; see `etude.construction` for the rules.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., nn.Module] | None = None,
        compute_loss_func: Callable[..., Any] | None = None,
        compute_metrics: Callable[..., dict[str, Any]] | None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[..., Any] | None = None,
        tokenizer: Any = None,
    ) -> None:
        self.args = TrainingArguments(output_dir="tmp_trainer") if args is None else args
        construction.arguments_fit(self.args)
        self._memory_tracker = measured_from_here(self.args.skip_memory_metrics, self.args.device)
        overriding.refuse_ignored(self)
        construction.model_or_init(model, model_init)
        construction.optimizers_fit(self.args, optimizers, optimizer_cls_and_kwargs, model_init)
        construction.collator_fits(data_collator)
        construction.data_fits(self.args, train_dataset, eval_dataset)
        mix_fits(self, train_dataset)
        construction.best_metric_fits(self.args)
        construction.functions_fit(
            compute_metrics=compute_metrics,
            compute_loss_func=compute_loss_func,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        construction.metrics_fit(self.args, compute_metrics)
        preparation.seed(self.args)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.processing_class = construction.processing_class_of(processing_class, tokenizer)
        self.data_collator = self._default_collator() if data_collator is None else data_collator
        self.compute_loss_func, self.compute_metrics = compute_loss_func, compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.optimizer, self.lr_scheduler = optimizers
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        self.model_init = model_init
        self._initialize_run_attributes()
        self._etude = self._build_engine()
        self.create_accelerator_and_postprocess()
        self._adopt_model(self.call_model_init() if model is None else model)
        self.callback_handler = self._build_callback_handler(as_list(callbacks))
        preparation.open_output(self)
        self.control = self.callback_handler.on_init_end(self.args, self.state, self.control)
        self._memory_tracker.stop("init")

    def _initialize_run_attributes(self) -> None:
        world = self.args.world
        self.state = TrainerState(
            is_local_process_zero=world.is_local_main, is_world_process_zero=world.is_main
        )
        self.control = TrainerControl()
        self.is_in_train = False
        self.current_gradient_accumulation_steps = self.args.gradient_accumulation_steps
        self._train_batch_size = self.args.train_batch_size
        self._signature_columns = None
        # What code written for the reference looks at; etude has none of it yet.
        self.deepspeed = None
        self.is_deepspeed_enabled = self.is_fsdp_enabled = False
        self.hub_model_id = self.push_in_progress = None
        self.label_smoother = None
        self.neftune_noise_alpha = self.args.neftune_noise_alpha

    def _build_engine(self) -> Engine:
        args = self.args
        ddp = DDPSettings(
            backend=args.ddp_backend,
            timeout=args.ddp_timeout_delta,
            find_unused_parameters=args.ddp_find_unused_parameters,
            bucket_cap_mb=args.ddp_bucket_cap_mb,
            broadcast_buffers=args.ddp_broadcast_buffers,
            static_graph=args.ddp_static_graph,
        )
        strategy: Strategy = select_strategy(args.world, args.device, ddp)
        strategy.setup()
        mirror = Mirror(str(args.output_dir), strategy, args.save_on_each_node)
        store = CheckpointStore(str(mirror.local), strategy, args.save_on_each_node)
        return Engine(
            strategy=strategy,
            precision=select_precision(args.bf16, args.fp16, args.device),
            compilation=Compilation(args.torch_compile, args.torch_compile_backend, args.torch_compile_mode),
            tf32=select_tf32(args.tf32, args.torch_compile, args.bf16 or args.fp16, args.device),
            store=store,
            mirror=mirror,
            writer=CheckpointWriter(
                store,
                strategy,
                args.save_in_background,
                goes_on=args.on_save_error == SaveErrorPolicy.CONTINUE,
                mirror=mirror,
            ),
            accumulation=Accumulation(strategy, [], shifted=False, across_processes=True),
        )

    def _adopt_model(self, model: nn.Module) -> None:
        """Takes a model: to the device, and with what can be told from its signature."""
        own_loss = self.compute_loss_func is not None or type(self).compute_loss is not Trainer.compute_loss
        construction.has_head(model, own_loss)
        self.model = self.model_wrapped = model
        if preparation.places_model(self.args, model):
            self._move_model_to_device(model, self._etude.strategy.device)
        names = self.args.label_names
        self.label_names = signature.label_names(model) if names is None else names
        self.can_return_loss = signature.can_return_loss(model)
        self.model_accepts_loss_kwargs = signature.accepts_loss_kwargs(model)
        self._etude.counts_label_shift = signature.shifts_labels(model)
        self._etude.operations = None
        self.label_smoother = preparation.select_smoother(self.args, model)
        if hasattr(getattr(model, "config", None), "use_cache"):
            model.config.use_cache = self.args.use_cache  # type: ignore[union-attr]

    def _default_collator(self) -> Callable[[list[Any]], Any]:
        pads = is_instance_of(
            self.processing_class, "transformers", "PreTrainedTokenizerBase", "SequenceFeatureExtractor"
        )
        return DataCollatorWithPadding(self.processing_class) if pads else default_data_collator

    def _build_callback_handler(self, callbacks: list[Any]) -> CallbackHandler:
        bar = NotebookProgressCallback if in_notebook() else ProgressCallback
        shown = bar if shows_bar(self.args.disable_tqdm) else PrinterCallback
        every = [DefaultFlowCallback, LogFileCallback, *callbacks, shown]
        return CallbackHandler(every, self.model, self.processing_class, self.optimizer, self.lr_scheduler)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """The model that `model_init` makes."""
        assert self.model_init is not None
        return construction.call_model_init(self.model_init, trial)

    # Callbacks

    def add_callback(self, callback: Any) -> None:
        """Adds a callback, given as an instance or a class."""
        self.callback_handler.add_callback(callback)

    def pop_callback(self, callback: Any) -> Any:
        """Removes a callback, given as an instance or a class, and returns it; None where there is none."""
        return self.callback_handler.pop_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        """Removes a callback, given as an instance or a class."""
        self.callback_handler.remove_callback(callback)

    # Training

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Trains the model.

        Args:
            resume_from_checkpoint: path or URL of a checkpoint to go on from; True for the newest in `args.output_dir`
                that is whole; "auto" for the same, or a start from the beginning where there is none.
            trial: of a search, passed to `model_init`.
            ignore_keys_for_eval: outputs that evaluations during training leave out.

        Returns:
            The number of updates, their mean loss, and the metrics of the closing log row.
        """
        folder = self._etude.mirror.open(self._get_output_dir(trial=trial))
        self._etude.store.output_dir = Path(folder)
        self._etude.store.recover()
        resume_from_checkpoint = self._etude.mirror.fetch(resume_from_checkpoint)
        checkpoint = self._etude.resolver.resolve(resume_from_checkpoint, folder)
        if checkpoint is not None:
            saving.compare_arguments(self, checkpoint)
        self.is_in_train = True
        self._memory_tracker.start("train")
        try:
            if self.model_init is not None:
                preparation.seed(self.args)
                self._adopt_model(self.call_model_init(trial))
                self.optimizer = self.lr_scheduler = None
            preparation.prepare_model(self)
            with noisy_embeddings(self.model, self.neftune_noise_alpha) as self.neftune_hook_handle:
                return preparation.run_attempts(self, checkpoint, trial, ignore_keys_for_eval)
        finally:
            self.is_in_train = False
            self._memory_tracker.stop("train")

    def _inner_training_loop(
        self,
        batch_size: int | None = None,
        args: TrainingArguments | None = None,
        resume_from_checkpoint: str | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        return training.run_training(self, resume_from_checkpoint, ignore_keys_for_eval)

    def is_world_process_zero(self) -> bool:
        """Whether this is the first of all processes."""
        return self.args.world.is_main

    def is_local_process_zero(self) -> bool:
        """Whether this is the first process of its machine."""
        return self.args.world.is_local_main


def as_list(value: Any) -> list[Any]:
    """The items of `value`; none for None."""
    return [] if value is None else list(value)
