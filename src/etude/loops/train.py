"""The epochs of a training, and what is due between its steps: logging, evaluating, saving."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from etude.core.rng import random_state, restore_random_state
from etude.data.epoch import release, set_epoch, start_at, warn_of_shared_draws
from etude.data.loader import any_batch
from etude.data.mixing import samples_read
from etude.data.waiting import advice
from etude.guards.oom import empty_device_cache
from etude.guards.preempt import STOP, EvaluationLeft, leave, reason
from etude.loops.run import Run
from etude.loops.step import update

logger = logging.getLogger(__name__)


def train(run: Run) -> None:
    """Runs epochs until the plan is fulfilled or a callback stops it."""
    try:
        epochs(run)
        logger.info("%.1f %% of the time went by waiting for data.", 100 * run.waiting.share)
    finally:
        release(run.loader)


def epochs(run: Run) -> None:
    """The epochs, and what is due before the first one."""
    run.fire("on_train_begin")
    attend(run)
    if run.settings.evaluate_first and run.resume is None:
        with suppress(EvaluationLeft):
            evaluate(run, skip_scheduler=True)
        attend(run)
    if run.resume is not None and run.progress.micro_steps == 0:
        if run.resume.at_checkpoint is not None:
            run.hooks._load_rng_state(run.resume.checkpoint)
        make_up(run)
    if run.progress.stop_training:
        logger.info("A callback had stopped this run at step %d.", run.hooks.state.global_step)
    is_over = run.progress.stop_training or run.hooks.state.global_step >= run.plan.max_steps
    if is_over and run.progress.micro_steps == 0:
        return  # otherwise the end of its epoch is still to come
    numbers = itertools.count() if run.plan.num_epochs is None else range(run.plan.num_epochs)
    for _ in itertools.islice(numbers, run.progress.epoch, None):
        epoch(run)
        if run.hooks.control.should_training_stop or run.hooks.state.global_step >= run.plan.max_steps:
            break


def epoch(run: Run) -> None:
    """One pass over the data, or what a resumed run has left of it."""
    hooks = run.hooks
    run.fire("on_epoch_begin")
    hooks.control.should_epoch_stop |= run.progress.stop_epoch
    hooks.control.should_training_stop |= run.progress.stop_training
    run.parameters = list(run.model.parameters())  # a callback may have added or replaced some
    run.batches = open_epoch(run)
    try:
        steps = updates(run)
    finally:
        run.batches = iter(())  # ends its loading processes
    if steps == 0 and run.progress.micro_steps == 0 and not _stopped(run):
        logger.warning(
            "The data loader had no batch in epoch %d: training stops at step %d of %d.",
            run.progress.epoch + 1, hooks.state.global_step, run.plan.max_steps,
        )  # fmt: skip
        hooks.control.should_training_stop = True
    run.fire("on_epoch_end")
    run.agree()
    run.progress.finish_epoch()
    run.progress.stop_epoch = False
    due(run)
    attend(run)


def updates(run: Run) -> int:
    """The updates of an epoch, and what is due between them; returns how many there were."""
    hooks, settings = run.hooks, run.settings
    make_up(run)
    steps = 0
    while hooks.state.global_step < run.plan.max_steps and not _stopped(run):
        run.waiting.begin()
        window, num_items, spare = next_window(run, run.batches)
        tell_of_waiting(run, run.waiting.end())
        if not window:
            break
        update(run, window, num_items, spare)
        steps += 1
        run.interruptions.step()
        due(run)
        run.writer.check()
        attend(run)
        if settings.empty_cache_steps and hooks.state.global_step % settings.empty_cache_steps == 0:
            empty_device_cache()
    return steps


def open_epoch(run: Run) -> Iterator[Any]:
    """The batches of this epoch from the current position on.

    A resumed epoch is opened with the random state that it began with, so that samplers and loading processes draw
    what they drew then; afterwards the state of the checkpoint is put back.
    """
    resume, run.resume = run.resume, None
    set_epoch(run.loader, run.progress.epoch)
    step = run.progress.micro_steps
    if resume is None or step == 0:
        run.epoch_random = random_state()
        return start_at(run.loader, 0)
    if resume.at_epoch_start is not None:
        restore_random_state(resume.at_epoch_start)
    run.epoch_random = random_state()
    if run.settings.skip_data:
        batches = start_at(run.loader, step, resume.data)
    else:
        batches = start_at(run.loader, 0)
        run.progress.micro_steps = 0
    if resume.at_checkpoint is not None:
        warn_of_shared_draws(batches, resume.at_checkpoint)
        run.hooks._load_rng_state(resume.checkpoint)
    return batches


def tell_of_waiting(run: Run, share: float | None) -> None:
    """Says, once, that much of the time goes by waiting for data."""
    if share is not None and run.strategy.world.is_main:
        logger.warning("%s", advice(share, getattr(run.loader, "num_workers", 0)))


def next_window(run: Run, batches: Iterator[Any]) -> tuple[list[Any], Any, int]:
    """The micro-batches of the next update: (micro-batches, number of items, how many count for nothing).

    With several processes all take the same number of micro-batches. One that has run out of samples before the
    others repeats its last one with weight 0, so that nobody waits for it.
    """
    size = run.settings.accumulation_steps
    if run.plan.micro_steps_per_epoch is not None:
        size = min(size, run.plan.micro_steps_per_epoch - run.progress.micro_steps)
    if size <= 0:
        return [], None, 0
    window, num_items = run.hooks.get_batch_samples(batches, size, run.strategy.device)
    if run.budgeted:
        run.taken, spare = size, window.count(None)
        window = [batch for batch in window if batch is not None]
    elif run.strategy.world.size == 1:
        run.taken, spare = len(window), 0
    else:
        if run.plan.micro_steps_per_epoch is None:
            size = max(run.strategy.gather_objects(len(window)))
        run.taken, spare = size, size - len(window)
    if spare:
        last = window[-1] if window else any_batch(run.loader)
        window = [*window, *[last] * spare]
    return window, num_items, spare


def due(run: Run) -> None:
    """What is due after an update or an epoch, in a subclass's way where there is one."""
    try:
        if run.overrides.due is not None:
            run.overrides.due(run)
        else:
            log_evaluate_save(run)
    except EvaluationLeft:
        control = run.hooks.control
        run.progress.owed = [name for name in ("should_evaluate", "should_save") if getattr(control, name)]


def make_up(run: Run) -> None:
    """Does what was due at the checkpoint's step and had been left undone, as the run was asked to stop."""
    owed, run.progress.owed = run.progress.owed, []
    for name in owed:
        setattr(run.hooks.control, name, True)
    if owed:
        due(run)
        attend(run)


def attend(run: Run) -> None:
    """Saves, and stops, where a signal or the clock asks for it.

    Raises:
        Preempted, KeyboardInterrupt: the run is asked to stop; there is a checkpoint to go on from.
    """
    wish = run.interruptions.between_steps()
    if not wish:
        return
    step = run.hooks.state.global_step
    if step not in (run.first_step, run.saved_step):
        save(run)
    if wish >= STOP:
        run.writer.wait()
        raise departure(run, wish)


def departure(run: Run, wish: int) -> BaseException:
    """The exception with which the run leaves; what is kept of it is said."""
    step = run.hooks.state.global_step
    if step == run.first_step:
        kept = "no step had been done"
    else:
        kept = f"checkpoint-{step} is " + ("written" if run.writer.has_written(step) else "NOT written")
    left = leave(wish, step)
    run.strategy.part_at_exit()
    if run.strategy.world.is_main:
        logger.warning("Stopped at step %d of %d by %s: %s.", step, run.plan.max_steps, reason(wish), kept)
    return left


def log_evaluate_save(run: Run) -> None:
    """Logs, evaluates and saves, in this order, as far as callbacks asked for it."""
    hooks = run.hooks
    control = hooks.control
    if control.should_log and hooks.state.global_step > run.progress.last_logged_step:
        log_training(run)
    if hooks.control.should_evaluate:
        run.guard.settle()
        hooks.store_flos()
        metrics = evaluate(run)
        is_best = hooks._determine_best_metric(metrics=metrics, trial=None)
        if run.settings.save_best:
            hooks.control.should_save = is_best
    if hooks.control.should_save:
        save(run)


def evaluate(run: Run, skip_scheduler: bool = False) -> dict[str, float]:
    """Evaluates. Until its first row is filed it can be left, and made again by the run that goes on."""
    hooks = run.hooks
    rows = len(hooks.state.log_history)
    with run.interruptions.evaluating(may_leave=lambda: len(hooks.state.log_history) == rows):
        return hooks._evaluate(None, run.settings.ignore_keys, skip_scheduler=skip_scheduler)


def save(run: Run) -> None:
    """Saves a checkpoint."""
    hooks = run.hooks
    run.guard.settle()
    run.progress.stop_epoch = hooks.control.should_epoch_stop
    run.progress.stop_training = (
        hooks.control.should_training_stop and hooks.state.global_step < run.plan.max_steps
    )
    hooks._save_checkpoint(run.model, None)
    run.saved_step = hooks.state.global_step
    run.interruptions.clock.saved()
    run.fire("on_save")


def log_training(run: Run) -> None:
    """Files a row with the mean loss since the last one. The one place where the host waits for the device."""
    state = run.hooks.state
    loss_sum = mean_over_processes(run)
    run.guard.settle()
    row: dict[str, float] = {"loss": loss_sum / (state.global_step - run.progress.last_logged_step)}
    norm, rate = run.progress.grad_norm, run.progress.learning_rate
    if norm is not None:
        row["grad_norm"] = norm.item()
    row["learning_rate"] = run.hooks._get_learning_rate() if rate is None else rate
    read = samples_read(run.loader, run.progress.epoch, run.progress.micro_steps)
    row |= {f"samples_{name}": count for name, count in read.items()}
    run.hooks.store_flos()
    run.progress.mark_logged(state.global_step, loss_sum)
    run.hooks.log(row, run.start_time)


def mean_over_processes(run: Run) -> float:
    """Sum of the losses since the last row; each process holds its part of them, scaled so that the mean counts."""
    pending = run.progress.pending_loss()
    if run.strategy.world.size > 1:
        pending = run.strategy.sum(pending.clone()) / run.strategy.world.size
    return float(pending.item())


def _stopped(run: Run) -> bool:
    return run.hooks.control.should_epoch_stop or run.hooks.control.should_training_stop
