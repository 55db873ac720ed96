"""What `Trainer` writes to disk and reads back: models, checkpoints, the best weights."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from etude.checkpoint import changes, contents, files, position, resume
from etude.checkpoint.weights import load_weights, save_weights
from etude.data.epoch import position_of, suits_other_processes
from etude.engine import Engine
from etude.errors import CheckpointError
from etude.loops.run import Run
from etude.optim.modes import weights_to_use

logger = logging.getLogger(__name__)


def save_model_files(trainer: Any, folder: str, state_dict: dict[str, Any] | None) -> None:
    """The model, what prepares its inputs, and the arguments: all that using the model needs."""
    os.makedirs(folder, exist_ok=True)
    engine: Engine = trainer._etude
    save_weights(trainer.model, folder, state_dict, engine.draft(folder))
    processing = trainer.processing_class
    if processing is None:
        processing = getattr(trainer.data_collator, "tokenizer", None)
    if hasattr(processing, "save_pretrained"):
        processing.save_pretrained(folder)
    contents.save_arguments(Path(folder), trainer.args)


def save_checkpoint(trainer: Any) -> None:
    """Writes `checkpoint-{global_step}` as a whole and removes checkpoints that are no longer wanted."""
    engine: Engine = trainer._etude
    trainer.store_flos()
    state, step = trainer.state, trainer.state.global_step
    best = state.best_global_step
    if best is not None and (best == step or engine.store.path(best).is_dir()):
        state.best_model_checkpoint = str(engine.store.path(best))
    keep_callback_states(trainer)
    limit, best_path = trainer.args.save_total_limit, state.best_model_checkpoint

    def afterwards() -> None:
        engine.store.prune(limit, best_path)
        engine.mirror.ready(step, limit, best)

    with weights_to_use(trainer.optimizer):
        engine.writer.save(
            step,
            fill=lambda folder: fill_checkpoint(trainer, folder),
            facts={"arguments": files.TRAINING_ARGS_JSON},
            afterwards=afterwards,
            wait=someone_looks(trainer),
        )
    if trainer.args.push_to_hub:
        trainer._push_from_checkpoint(str(engine.store.path(step)))


def deliver(trainer: Any, folder: str | None = None) -> None:
    """Sends what was written to the folder of a URL to where it belongs; the run's folder if None."""
    engine: Engine = trainer._etude
    engine.mirror.send_files(folder)
    engine.writer.check()


def someone_looks(trainer: Any) -> bool:
    """Whether code other than our own may look at a checkpoint as soon as it is saved, so that it has to be there."""
    own = type(trainer)._save_checkpoint.__module__.startswith("etude.")
    listened = trainer.callback_handler.is_heard_by_others("on_save")
    return not own or listened or bool(trainer.args.push_to_hub) or not trainer.is_in_train


def keep_callback_states(trainer: Any) -> None:
    """Puts the state of callbacks and control into the trainer's state, which is about to be written."""
    callbacks = [*trainer.callback_handler.callbacks, trainer.control]
    trainer.state.stateful_callbacks = contents.exported_states(callbacks)


def fill_checkpoint(trainer: Any, staging: Path) -> None:
    """This process's files of a checkpoint."""
    engine: Engine = trainer._etude
    run, strategy = engine.run, engine.strategy
    # First of all: a process that fails below would leave the others waiting for it here.
    positions = strategy.gather_objects(None if run is None else run.progress.state_dict())
    trainer.save_model(str(staging), _internal_call=True)
    if run is not None and not trainer.args.save_only_model:
        trainer._save_rng_state(str(staging))
        place = position_of(run.batches, run.progress.micro_steps) if run.progress.micro_steps else None
        position.save_data(staging, place, strategy.world.rank, strategy.world.size)
        trainer._save_optimizer_and_scheduler(str(staging))
        if trainer.args.should_save:
            trainer._save_scaler(str(staging))
            position.save(staging, positions, layout(trainer), trainer.args.gradient_accumulation_steps)
    if trainer.args.should_save:
        trainer.state.save_to_json(str(staging / files.TRAINER_STATE))


def layout(trainer: Any) -> position.Layout:
    """How the run cuts its global batches."""
    engine: Engine = trainer._etude
    steps = engine.kept_accumulation or trainer.args.gradient_accumulation_steps
    return position.Layout(trainer._train_batch_size, steps, engine.strategy.world.size)


def keep_global_batch(trainer: Any, checkpoint: str | None) -> None:
    """Chooses the accumulation steps that keep the global batch of a checkpoint of another number of processes."""
    engine: Engine = trainer._etude
    engine.kept_accumulation = None
    asked = layout(trainer)
    if checkpoint is not None:
        steps = position.kept_accumulation(checkpoint, asked, told=engine.strategy.world.is_main)
        engine.kept_accumulation = None if steps == asked.accumulation_steps else steps
    trainer.current_gradient_accumulation_steps = layout(trainer).accumulation_steps


def load_position(trainer: Any, run: Run, checkpoint: str) -> position.SavedPosition:
    """Where the run of a checkpoint stood.

    Raises:
        CheckpointError: it had another number of processes, and what each of them read is not etude's to divide anew.
    """
    here, saved = layout(trainer), position.saved_layout(checkpoint)
    moved = saved is not None and saved.world_size != here.world_size and trainer.state.global_step > 0
    if moved and not suits_other_processes(run.loader):
        assert saved is not None
        raise CheckpointError(
            f"{checkpoint} was written by {saved.world_size} processes, this run has {here.world_size}, and its "
            "training loader is your own, of which etude cannot tell what each process has read: pass it through "
            f"`accelerator.prepare`, or start {saved.world_size}."
        )
    world = run.strategy.world
    return position.load(checkpoint, trainer.state, run.plan, here, world.rank, trainer.args.seed)


def load_best_model(trainer: Any) -> None:
    """Puts the weights of the best checkpoint into the model."""
    state = trainer.state
    logger.info("Loading the best model, of %s (score: %s).", state.best_model_checkpoint, state.best_metric)
    trainer._etude.resolver.require_weights(state.best_model_checkpoint)
    load_weights(trainer.model, state.best_model_checkpoint)


def compare_arguments(trainer: Any, checkpoint: str) -> None:
    """Says which arguments are not those that the checkpoint was written with.

    Raises:
        CheckpointError: with one of them the run cannot go on from it.
    """
    told = changes.report(checkpoint, changes.changes_since(checkpoint, trainer.args))
    if told is not None and trainer.is_world_process_zero():
        logger.warning("%s", told)


def load_optimizer_and_scheduler(trainer: Any, checkpoint: str) -> None:
    """Restores optimizer and schedule, which must both be there, or begins with new ones where the arguments say so."""
    if trainer.args.resume_with_fresh_optimizer:
        resume.begin_afresh(trainer.lr_scheduler, trainer.state.global_step)
        return
    resume.load_optimizer(checkpoint, trainer.optimizer, trainer.lr_scheduler)
