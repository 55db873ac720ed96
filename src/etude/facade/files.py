"""The Trainer's methods that write to disk and read back."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from torch import nn

from etude import saving
from etude.checkpoint import contents, files, position
from etude.checkpoint.storage import local_folder
from etude.checkpoint.tensors import load_tensors
from etude.checkpoint.weights import load_weights
from etude.core.rng import restore_random_state
from etude.facade.base import TrainerAttributes
from etude.loops.evaluate import find_metric

logger = logging.getLogger(__name__)


class FileMethods(TrainerAttributes):
    """Models and checkpoints. The ones with an underscore are called by the loop, and may be overridden as well."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the model, what prepares its inputs, and the arguments. Call it on every process.

        Args:
            output_dir: the folder, or its URL; `args.output_dir` if not given.
        """
        folder = str(self.args.output_dir) if output_dir is None else output_dir
        if self.args.should_save:
            self._save(local_folder(folder))
        if not _internal_call:
            saving.deliver(self, folder)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Writes the files of `save_model`, on the main process."""
        folder = str(self.args.output_dir) if output_dir is None else output_dir
        saving.save_model_files(self, local_folder(folder), state_dict)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Writes the checkpoint of this step, and removes those that are no longer wanted."""
        saving.save_checkpoint(self)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Puts the weights of a checkpoint into the model."""
        load_weights(self.model if model is None else model, resume_from_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Restores optimizer and schedule of a checkpoint."""
        if checkpoint is not None:
            saving.load_optimizer_and_scheduler(self, checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Writes optimizer and schedule into a checkpoint; called on every process, each of which writes its part."""
        engine, draft = self._etude, self._etude.draft(output_dir)
        if self.args.save_on_each_node:  # the parts of other machines would be missing
            if self.args.should_save:
                contents.save_optimizer(draft, self.optimizer, 0, 1)
        else:
            contents.save_optimizer(
                draft, self.optimizer, engine.strategy.world.rank, engine.strategy.world.size
            )
        if self.args.should_save:
            contents.save_schedule(draft.folder, self.lr_scheduler)

    def _save_scaler(self, output_dir: str) -> None:
        """Writes the loss scaler into a checkpoint, where there is one."""
        contents.save_scaler(Path(output_dir), self._etude.precision.state_dict())

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Restores the loss scaler of a checkpoint, where there is one."""
        path = Path(checkpoint or "") / files.SCALER
        if checkpoint is not None and path.is_file():
            self._etude.precision.load_state_dict(load_tensors(path))

    def _save_rng_state(self, output_dir: str) -> None:
        """Writes the random state of this process into a checkpoint."""
        run, world = self._etude.run, self._etude.strategy.world
        began = {} if run is None else run.epoch_random
        position.save_random_state(Path(output_dir), began, world.rank, world.size)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restores the random state of this process, as it was when the checkpoint was written."""
        if checkpoint is None:
            return
        world = self._etude.strategy.world
        if saved := position.load_random_state(checkpoint, world, self.args.seed, self.state.global_step):
            restore_random_state(saved)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Says which weights a subclass's own `_load_from_checkpoint` did not find, or had no place for."""
        shared = set(getattr(self.model, "_keys_to_ignore_on_save", None) or ())
        for what, keys in (
            ("lacks", load_result.missing_keys),
            ("has too many", load_result.unexpected_keys),
        ):
            if told := sorted(set(keys) - shared):
                logger.warning("The checkpoint %s weights: %s.", what, ", ".join(told))

    def _load_best_model(self) -> None:
        """Puts the weights of the best checkpoint into the model."""
        saving.load_best_model(self)

    def _get_output_dir(self, trial: Any = None) -> str:
        """The folder of the run's checkpoints, on this machine."""
        return local_folder(str(self.args.output_dir))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any = None) -> bool:
        """Compares an evaluation with the best so far. Returns whether it is the new best."""
        name = self.args.metric_for_best_model
        if name is None:
            return False
        value, best = find_metric(metrics, name), self.state.best_metric
        better = best is None or (value > best if self.args.greater_is_better else value < best)
        if not better or value != value:  # NaN is never the best
            return False
        self.state.best_metric = value
        if self.args.save_strategy != "no":
            self.state.best_global_step = self.state.global_step
        return True

    def save_state(self) -> None:
        """Writes `trainer_state.json` to the output folder."""
        if self.args.should_save:
            saving.keep_callback_states(self)
            folder = local_folder(str(self.args.output_dir))
            os.makedirs(folder, exist_ok=True)
            self.state.save_to_json(os.path.join(folder, files.TRAINER_STATE))
            saving.deliver(self)
