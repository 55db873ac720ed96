from __future__ import annotations

import numpy as np
import pytest
import torch

import etude
from etude import Trainer
from etude.errors import ConfigurationError
from tests import helpers


class Accuracy:
    """Counts batch by batch, and gives its result with the last one."""

    def __init__(self) -> None:
        self.right = self.seen = 0
        self.calls: list[tuple[int, bool]] = []
        self.extras: list[tuple[object, object]] = []

    def __call__(self, prediction, compute_result: bool):
        assert isinstance(prediction.predictions, torch.Tensor)
        assert isinstance(prediction.label_ids, torch.Tensor)
        self.right += int((prediction.predictions.argmax(-1) == prediction.label_ids).sum())
        self.seen += len(prediction.label_ids)
        self.calls.append((len(prediction.label_ids), compute_result))
        self.extras.append((prediction.inputs, prediction.losses))
        return {"accuracy": self.right / self.seen} if compute_result else {}


def made(folder, metric, **fields) -> Trainer:
    torch.manual_seed(0)
    return Trainer(
        helpers.DictClassifier(),
        helpers.training_arguments(etude, folder, per_device_eval_batch_size=4, **fields),
        eval_dataset=helpers.feature_rows(10),
        compute_metrics=metric,
    )


def test_it_is_the_metric_of_the_whole_set(tmp_path):
    metric = Accuracy()
    by_batch = made(tmp_path, metric, batch_eval_metrics=True).evaluate()
    whole = made(tmp_path, helpers.accuracy).evaluate()
    assert by_batch["eval_accuracy"] == whole["eval_accuracy"]
    assert by_batch["eval_loss"] == whole["eval_loss"]
    assert metric.calls == [(4, False), (4, False), (2, True)]


def test_evaluation_keeps_no_outputs_and_prediction_does(tmp_path):
    trainer = made(tmp_path, Accuracy(), batch_eval_metrics=True)
    output = trainer.evaluation_loop(trainer.get_eval_dataloader(), "Evaluation")
    assert output.predictions is None
    predicted = trainer.predict(helpers.feature_rows(10))
    assert isinstance(predicted.predictions, np.ndarray)
    assert predicted.predictions.shape == (10, helpers.NUM_CLASSES)
    assert predicted.metrics["test_accuracy"] >= 0


def test_inputs_and_losses_on_request(tmp_path):
    metric = Accuracy()
    made(tmp_path, metric, batch_eval_metrics=True, include_for_metrics=["inputs", "loss"]).evaluate()
    inputs, losses = metric.extras[-1]
    assert set(inputs) == {"features", "labels"}
    assert losses.shape == (2,)


def test_a_function_that_is_not_told_about_the_last_batch_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"batch_eval_metrics.*compute_result"):
        made(tmp_path, helpers.accuracy, batch_eval_metrics=True)
