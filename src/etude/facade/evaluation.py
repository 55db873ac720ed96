"""The Trainer's methods that evaluate and predict."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from etude import preparation
from etude.core import rng, signature
from etude.core.outputs import EvalLoopOutput, PredictionOutput
from etude.core.speed import speed_metrics
from etude.errors import SetupError
from etude.facade.data import DataMethods
from etude.facade.results import ResultMethods
from etude.guards.oom import is_out_of_memory
from etude.loops import evaluate as evaluation
from etude.models.casting import cast_model
from etude.optim.by_metric import needs_metric


class EvaluationMethods(DataMethods, ResultMethods):
    """Evaluation and prediction. Both leave model, random state and training as they were."""

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluates the model and logs the metrics. Leaves the random state of the training as it was.

        Args:
            eval_dataset: a data set, a dictionary of several (each evaluated under "{prefix}_{name}"), or the name of
                one of the Trainer's; all of the Trainer's if not given.
            ignore_keys: outputs that are left out.
            metric_key_prefix: put before the metrics' names.
        """
        chosen = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(chosen, dict):
            # by name where they are the Trainer's own, so that an overridden get_eval_dataloader sees which one
            targets = chosen if eval_dataset is not None else {name: name for name in chosen}
            return self._evaluate_each(targets, ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix)
        with self._memory_tracker.measured("eval"):
            output = self._timed_loop(
                lambda: self.get_eval_dataloader(chosen),
                metric_key_prefix,
                description="Evaluation",
                prediction_loss_only=True if self.compute_metrics is None else None,
                ignore_keys=ignore_keys,
            )
            self.log(output.metrics)
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, output.metrics
            )
        self._memory_tracker.stop_and_update_metrics(output.metrics, "eval")
        return output.metrics  # type: ignore[no-any-return]

    def _evaluate_each(
        self, datasets: dict[str, Any], metric_key_prefix: str, **options: Any
    ) -> dict[str, float]:
        """The metrics of several data sets together."""
        merged: dict[str, float] = {}
        for name, dataset in datasets.items():
            merged |= self.evaluate(
                eval_dataset=dataset, metric_key_prefix=f"{metric_key_prefix}_{name}", **options
            )
        return merged

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False
    ) -> dict[str, float]:
        """The evaluation that is due inside a training."""
        try:
            metrics = self.evaluate(ignore_keys=ignore_keys_for_eval)
        except (RuntimeError, MemoryError) as error:
            if not (self.args.auto_find_batch_size and is_out_of_memory(error)):
                raise
            raise SetupError(
                "An evaluation ran out of memory; `auto_find_batch_size` only adjusts the training batch size. Lower "
                "`per_device_eval_batch_size`."
            ) from error
        if not skip_scheduler and needs_metric(self.lr_scheduler):
            self.lr_scheduler.step(evaluation.find_metric(metrics, str(self.args.metric_for_best_model)))
        return metrics

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Runs the model on a data set.

        Returns:
            Outputs and labels of all samples in their order, and metrics where there are labels.
        """
        with self._memory_tracker.measured("test"):
            output = self._timed_loop(
                lambda: self.get_test_dataloader(test_dataset),
                metric_key_prefix,
                description="Prediction",
                ignore_keys=ignore_keys,
            )
            self.control = self.callback_handler.on_predict(
                self.args, self.state, self.control, output.metrics
            )
        self._memory_tracker.stop_and_update_metrics(output.metrics, "test")
        return PredictionOutput(output.predictions, output.label_ids, output.metrics)

    def _timed_loop(self, make_loader: Callable[[], Any], prefix: str, **options: Any) -> Any:
        start_time = time.time()
        with rng.undisturbed():
            loader = make_loader()
            self.callback_handler.eval_dataloader = loader
            output = self.evaluation_loop(loader, **options, metric_key_prefix=prefix)
        batch = self.args.eval_batch_size * self.args.world_size
        steps = math.ceil((output.num_samples or 0) / batch)
        output.metrics.update(speed_metrics(prefix, start_time, output.num_samples, steps))  # type: ignore[union-attr]
        return output

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Runs the model over a loader, for `evaluate` and `predict`.

        Args:
            description: what it is for.
            prediction_loss_only: keep only losses; `args.prediction_loss_only` if not given.
        """
        args = self.args
        settings = evaluation.EvaluationSettings(
            loss_only=args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only,
            join_batches=args.eval_do_concat_batches,
            keep=tuple(args.include_for_metrics),
            main_input=signature.main_input_name(self.model),
            ignore_keys=ignore_keys,
            by_batch=args.batch_eval_metrics and self.compute_metrics is not None,
            keep_outputs=description == "Prediction",
        )
        self.model.eval()
        if callable(getattr(self.optimizer, "eval", None)):  # schedule-free optimizers have modes too
            self.optimizer.eval()
        engine = self._etude
        run = engine.run if self.is_in_train else None
        dtype = None if self.is_in_train else preparation.full_eval_dtype(args)
        with cast_model(self.model, dtype, engine.strategy.device), engine.running(self.model):
            return evaluation.evaluate(
                self,
                self.model,
                dataloader,
                engine.strategy,
                settings,
                self.compute_metrics,
                metric_key_prefix,
                iter if run is None else run.interruptions.watched,
            )
