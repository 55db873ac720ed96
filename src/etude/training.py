"""One call of `Trainer.train`: choosing the parts, putting them together, running the loop, closing the run."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from etude import construction, preparation, saving
from etude.arguments import TrainingArguments
from etude.checkpoint import resume
from etude.checkpoint.contents import restored_callbacks
from etude.core.interval import aligned
from etude.core.names import DebugOption, NonFinitePolicy, SaveErrorPolicy, SaveStrategy
from etude.core.outputs import TrainOutput
from etude.core.progress import Progress
from etude.core.rng import following
from etude.core.signature import count_parameters
from etude.core.speed import speed_metrics
from etude.core.state import Plan, TrainerState
from etude.data.budget import BudgetSampler
from etude.data.epoch import samples_of
from etude.data.loader import has_length
from etude.engine import Engine
from etude.errors import ConfigurationError
from etude.guards.nonfinite import select_guard
from etude.guards.preempt import Interruptions
from etude.guards.underflow import watched
from etude.loops import train as loop
from etude.loops.accumulate import Accumulation
from etude.loops.run import LoopSettings, ResumePoint, Run
from etude.optim.by_metric import per_update
from etude.optim.modes import eval_mode, train_mode
from etude.overriding import is_overridden, loop_overrides
from etude.report.startup import Facts, startup_report
from etude.strategies.base import Strategy


def run_training(trainer: Any, checkpoint: str | None, ignore_keys: list[str] | None) -> TrainOutput:
    """Trains from the beginning, or from `checkpoint`, to the end."""
    with preparation.interruptions(trainer) as interruptions:
        run = _trained(trainer, interruptions, checkpoint, ignore_keys)
    return trainer._finalize_training(None, run.plan.num_samples, run.start_time)  # type: ignore[no-any-return]


def _trained(
    trainer: Any, interruptions: Interruptions, checkpoint: str | None, ignore_keys: list[str] | None
) -> Run:
    """The run, when its last step is done and its checkpoints are written."""
    engine: Engine = trainer._etude
    if checkpoint is not None:
        trainer._load_from_checkpoint(checkpoint)
    run = assemble(trainer, checkpoint, ignore_keys)
    run.interruptions = interruptions
    engine.run = run
    if engine.strategy.world.is_main and trainer.args.log_level not in ("warning", "error", "critical"):
        print(startup_report(facts(trainer, run, checkpoint)), file=sys.stderr, flush=True)
    run.model.train()  # all of it: transformers loads models in evaluation mode, also those inside of others
    train_mode(trainer.optimizer)
    run.start_time = time.time()
    run.first_step = trainer.state.global_step
    run.first_tokens = trainer.state.num_input_tokens_seen
    for parameter in run.model.parameters():
        parameter.grad = None
    watch = DebugOption.UNDERFLOW_OVERFLOW in trainer.args.debug
    drawing = following(trainer.data_collator)  # a collator with a seed of its own
    try:
        with engine.running(trainer.model), watched(trainer.model, watch), drawing:
            loop.train(run)
    except BaseException:
        engine.writer.drain()
        raise
    engine.writer.finish()
    return run


def assemble(trainer: Any, checkpoint: str | None, ignore_keys: list[str] | None) -> Run:
    """Every part of the run, restored from `checkpoint` where there is one."""
    engine: Engine = trainer._etude
    args: TrainingArguments = trainer.args
    saving.keep_global_batch(trainer, checkpoint)
    loader = trainer.get_train_dataloader()
    construction.batches_are_kept(args, loader)
    plan = planned(trainer, loader)
    trainer.state = begin_state(trainer, plan, checkpoint)
    engine.store.begin(trainer.state.global_step)
    engine.mirror.begin(trainer.state.global_step)
    if engine.created_scheduler:  # its length belongs to the training before this one
        trainer.lr_scheduler, engine.created_scheduler = None, False
    create_optimizer(trainer, plan.max_steps)
    trainer.model_wrapped = trainer._wrap_model(trainer.model_wrapped)
    trainer.create_scheduler(num_training_steps=plan.max_steps)
    engine.accumulation = make_accumulation(trainer, engine.strategy)
    progress = Progress(engine.strategy.device)
    run = Run(
        hooks=trainer,
        settings=loop_settings(args, ignore_keys, engine.kept_accumulation),
        plan=plan,
        strategy=engine.strategy,
        precision=engine.precision,
        accumulation=engine.accumulation,
        guard=select_guard(
            NonFinitePolicy(args.on_nonfinite),
            trainer.optimizer,
            engine.precision,
            engine.strategy,
            lambda step: samples_of_step(run, step),
        ),
        model=trainer.model_wrapped,
        optimizer=trainer.optimizer,
        scheduler=per_update(trainer.lr_scheduler, trainer.optimizer),
        loader=loader,
        progress=progress,
        writer=engine.writer,
        tokens=preparation.token_counter(trainer),
        overrides=loop_overrides(trainer),
        budgeted=isinstance(getattr(loader, "batch_sampler", None), BudgetSampler),
    )
    if checkpoint is not None:
        restore(trainer, run, checkpoint)
    handler = trainer.callback_handler
    handler.model, handler.optimizer = trainer.model, trainer.optimizer
    handler.lr_scheduler, handler.train_dataloader = trainer.lr_scheduler, loader
    return run


def create_optimizer(trainer: Any, num_training_steps: int) -> None:
    """Makes the optimizer; and the schedule with it where a subclass makes both at once."""
    if is_overridden(trainer, "create_optimizer_and_scheduler"):
        trainer.create_optimizer_and_scheduler(num_training_steps=num_training_steps)
    else:
        trainer.create_optimizer()
    construction.optimizer_fits_model(trainer.optimizer, trainer.model)


def planned(trainer: Any, loader: Any) -> Plan:
    """The size of the run, as `set_initial_training_values` says where a subclass overrides it."""
    if not is_overridden(trainer, "set_initial_training_values"):
        return make_plan(trainer, trainer.args, loader)
    epochs, updates, examples, samples, size, length, steps = trainer.set_initial_training_values(
        trainer.args, loader
    )
    known = has_length(loader)
    return Plan(
        epochs if known else None, updates, length if known else None, length, steps, examples, samples, size
    )


def make_plan(trainer: Any, args: TrainingArguments, loader: Any) -> Plan:
    """The size of the run: epochs, updates, samples.

    Raises:
        ConfigurationError: neither the data nor the arguments say how long to train.
    """
    steps = trainer._etude.kept_accumulation or args.gradient_accumulation_steps
    global_batch = trainer.get_total_train_batch_size(args)
    length = len(loader) if has_length(loader) else None
    if length is None:
        if args.max_steps <= 0:
            raise ConfigurationError(
                "`max_steps` must be set to a positive value if the data loader does not have a length, was "
                f"{args.max_steps}."
            )
        size = global_batch * args.max_steps
        return Plan(
            None, args.max_steps, None, args.max_steps * steps, args.max_steps, size, size, global_batch
        )
    updates = max(1, math.ceil(length / steps))
    examples = trainer.num_examples(loader)
    if args.max_steps > 0:
        epochs, max_steps = math.ceil(args.max_steps / updates), args.max_steps
        samples = float(max_steps * global_batch)
    else:
        epochs, max_steps = math.ceil(args.num_train_epochs), math.ceil(args.num_train_epochs * updates)
        samples = examples * args.num_train_epochs
    return Plan(epochs, updates, length, max(1, length), max_steps, examples, samples, global_batch)


def begin_state(trainer: Any, plan: Plan, checkpoint: str | None) -> TrainerState:
    """The state that the run starts with: a new one, or that of the checkpoint with the callbacks restored."""
    args: TrainingArguments = trainer.args
    world = trainer._etude.strategy.world
    if checkpoint is None:
        state = TrainerState()
    else:
        state = resume.load_trainer_state(checkpoint)
        trainer._etude.resolver.forget_broken_best(state, checkpoint)
        if args.restore_callback_states_from_checkpoint:
            handler = trainer.callback_handler
            handler.callbacks, unknown = restored_callbacks(handler.callbacks, state)
            for name in unknown:
                resume.logger.warning(
                    "The checkpoint has the state of a callback %s, which this run has not.", name
                )
    state.compute_steps(args, plan.max_steps)
    if args.load_best_model_at_end and args.save_strategy == args.eval_strategy == "steps":
        # shares of the run were rounded to steps one by one
        state.save_steps = int(aligned(state.save_steps, state.eval_steps))
    state.max_steps = plan.max_steps
    state.num_train_epochs = sys.maxsize if plan.num_epochs is None else plan.num_epochs
    state.train_batch_size = trainer._train_batch_size
    state.is_local_process_zero, state.is_world_process_zero = world.is_local_main, world.is_main
    return state


def wrapped(current: Any, model: Any, strategy: Strategy) -> Any:
    """The model as the strategy runs it; a wrapper made by an earlier training is used again."""
    if isinstance(current, DistributedDataParallel) and current.module is model:
        return current
    return strategy.wrap(model)


def make_accumulation(trainer: Any, strategy: Strategy) -> Accumulation:
    """How the micro-batches of an update are weighted for this model and its labels."""
    return Accumulation(
        strategy,
        trainer.label_names,
        shifted=trainer._etude.counts_label_shift if hasattr(trainer, "_etude") else False,
        across_processes=trainer.args.average_tokens_across_devices,
    )


def loop_settings(
    args: TrainingArguments, ignore_keys: list[str] | None, kept_accumulation: int | None = None
) -> LoopSettings:
    """The arguments that the loop looks at."""
    return LoopSettings(
        accumulation_steps=kept_accumulation or args.gradient_accumulation_steps,
        max_grad_norm=args.max_grad_norm,
        evaluate_first=args.eval_on_start,
        save_best=args.save_strategy == SaveStrategy.BEST,
        skip_data=not args.ignore_data_skip,
        ignore_keys=ignore_keys,
        empty_cache_steps=args.torch_empty_cache_steps,
    )


def restore(trainer: Any, run: Run, checkpoint: str) -> None:
    """Puts optimizer, schedule, loss scaling, position and random state back to where the checkpoint has them."""
    trainer._load_optimizer_and_scheduler(checkpoint)
    trainer._load_scaler(checkpoint)
    saved = saving.load_position(trainer, run, checkpoint)
    run.progress.load_state_dict(saved.progress)
    run.resume = ResumePoint(checkpoint, saved.at_epoch_start, saved.at_checkpoint, saved.data)


def samples_of_step(run: Run, step: int) -> list[int] | None:
    """Data set indices of a step of the epoch in progress, on this process."""
    updates_done = math.ceil(run.progress.micro_steps / run.settings.accumulation_steps)
    behind = run.hooks.state.global_step + 1 - step  # 0 for the step in progress
    last = (updates_done - behind) * run.settings.accumulation_steps
    start = last - run.settings.accumulation_steps
    return None if start < 0 else samples_of(run.loader, start, last)


def finish(trainer: Any, run: Run) -> TrainOutput:
    """The closing row, the best model, and the last events."""
    state, args = trainer.state, trainer.args
    total = run.progress.total_loss(loop.mean_over_processes(run))
    run.guard.settle()
    eval_mode(trainer.optimizer)
    done = state.global_step - run.first_step
    train_loss = total / max(state.global_step, 1)
    metrics = speed_metrics(
        "train", run.start_time, run.plan.num_samples * done / max(state.max_steps, 1), done
    )
    trainer.store_flos()
    metrics |= {"total_flos": float(state.total_flos), "train_loss": train_loss}
    trainer.is_in_train = False
    trainer._memory_tracker.stop_and_update_metrics(metrics, "train")
    trainer.log(metrics)
    best = state.best_model_checkpoint
    if best is not None and not os.path.isdir(best) and args.on_save_error == SaveErrorPolicy.CONTINUE:
        state.best_model_checkpoint = None  # it could not be written, which was told
    if args.load_best_model_at_end and state.best_model_checkpoint is not None:
        trainer._load_best_model()
    elif args.load_best_model_at_end and state.best_metric is not None:
        resume.logger.warning("The model keeps its last weights: there is no checkpoint of the best ones.")
    if args.save_total_limit == 1 and state.best_model_checkpoint is not None:
        run.strategy.barrier()
        trainer._etude.store.keep_only(state.best_model_checkpoint)
        trainer._etude.mirror.keep_only(state.best_model_checkpoint)
    run.fire("on_train_end")
    saving.deliver(trainer)
    trainer._finish_current_push()
    return TrainOutput(state.global_step, train_loss, metrics)


def facts(trainer: Any, run: Run, checkpoint: str | None) -> Facts:
    """What the start-up report says."""
    return Facts(
        model=type(trainer.model).__name__,
        num_parameters=count_parameters(trainer.model),
        num_trainable=count_parameters(trainer.model, trainable_only=True),
        plan=run.plan,
        micro_batch=trainer._train_batch_size,
        accumulation_steps=run.settings.accumulation_steps,
        world_size=run.strategy.world.size,
        precision=run.precision.name,
        device=str(run.strategy.device),
        strategy=_processes(run.strategy),
        output_dir=trainer._etude.mirror.told(),
        resumed_from=checkpoint,
        first_step=trainer.state.global_step,
    )


def _processes(strategy: Strategy) -> str:
    size = strategy.world.size
    return "1 process" if size == 1 else f"{size} processes ({strategy.name})"
