"""Where étude differs from the reference on purpose: does the reference still behave as we say it does?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests import helpers
from tests.parity.families import TIED, VIT
from tests.parity.options import OPTIONS
from tests.parity.runner import BERT, DICT, GPT2, LIBRARIES, build_trainer, run, run_both
from tests.parity.test_events import record

WINDOWS = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "max_steps": 1,
    "max_grad_norm": 0.0,
}


def test_reference_multiplies_the_loss_of_bert_by_the_accumulation_steps(tmp_path: Path) -> None:
    """A model with ``**kwargs`` that ignores the count is trained with a four times too large loss by the reference."""
    case = BERT.having("factor", **WINDOWS)
    wrong = run("transformers", replace(case, told={}), tmp_path).log_history[0]
    right = run("etude", case, tmp_path).log_history[0]
    assert wrong["loss"] == pytest.approx(4 * right["loss"], rel=1e-5)
    assert wrong["grad_norm"] == pytest.approx(4 * right["grad_norm"], rel=1e-5)


def test_reference_weighs_micro_batches_of_unequal_size_alike(tmp_path: Path) -> None:
    """Six samples in micro-batches of four: the reference means the means, étude means the samples."""
    case = replace(DICT, name="uneven", train_rows=lambda: helpers.feature_rows(6, seed=3))
    split = case.having(per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=1)
    whole = case.having(per_device_train_batch_size=6, max_steps=1)
    truth = run("etude", whole, tmp_path).log_history[0]["loss"]
    assert run("etude", split, tmp_path).log_history[0]["loss"] == pytest.approx(truth, rel=1e-6)
    assert run("transformers", split, tmp_path).log_history[0]["loss"] != pytest.approx(truth, rel=1e-4)


def test_reference_divides_the_loss_of_gpt2_by_too_many_labels(tmp_path: Path) -> None:
    """The first token of a row is predicted by nothing, yet the reference counts it in the mean of GPT-2."""
    case = replace(GPT2, train_rows=lambda: helpers.sequence_rows(8, seed=3)).having(
        per_device_train_batch_size=8, max_steps=1
    )
    batch = helpers.pad_texts(helpers.sequence_rows(8, seed=3).rows)
    labels, predicted = (
        (part != helpers.IGNORED).sum().item() for part in (batch["labels"], batch["labels"][:, 1:])
    )
    wrong = run("transformers", replace(case, told={}), tmp_path).log_history[0]["loss"]
    right = run("etude", case, tmp_path).log_history[0]["loss"]
    assert wrong == pytest.approx(right * predicted / labels, rel=1e-5)


def test_reference_leaves_out_samples_of_an_evaluation(tmp_path: Path) -> None:
    """With ``dataloader_drop_last`` the reference evaluates 16 of 19 samples; étude drops in training only."""
    counts = {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = build_trainer(lib, DICT.having(dataloader_drop_last=True), tmp_path / name)
            counts[name] = len(trainer.predict(DICT.eval_rows()).predictions)
    assert counts == {"transformers": 16, "etude": 19}


@pytest.mark.parametrize("event", ["on_step_begin", "on_substep_end"])
def test_reference_abandons_an_update_that_is_stopped_in_the_middle(event: str, tmp_path: Path) -> None:
    """A stop that a callback asks for between micro-batches: étude finishes the update first, and then stops."""
    case = DICT.having(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    seen = record(case, tmp_path, steering=(event, 2, "should_training_stop"))
    steps = {
        name: sum(happened[0] == "on_optimizer_step" for happened in events) for name, events in seen.items()
    }
    assert steps == {"transformers": 2, "etude": 3}


def test_reference_does_not_load_the_best_model_where_files_have_other_names(tmp_path: Path) -> None:
    """The files of a ViT name its layers otherwise than its modules do: the reference leaves them as they were."""
    from transformers import ViTForImageClassification

    distances = {}
    for outcome in run_both(OPTIONS["best-at-end"](VIT), tmp_path):
        best = outcome.trainer.state
        assert best.best_global_step < best.global_step, (
            "the last weights are the best: the test would show nothing"
        )
        loaded = ViTForImageClassification.from_pretrained(best.best_model_checkpoint)
        distances[outcome.folder.name] = helpers.relative_difference(
            outcome.weights, helpers.weights_of(loaded)
        )
    assert distances["etude"] == 0.0
    assert distances["transformers"] > 0.1


def test_reference_cannot_save_a_plain_module_with_tied_weights(tmp_path: Path) -> None:
    """A checkpoint of it: an error there, and here one that a run goes on from."""
    case = OPTIONS["saved-by-steps"](TIED)
    with pytest.raises(RuntimeError, match="share memory"):
        run("transformers", case, tmp_path)
    whole = run("etude", case, tmp_path)
    resumed = run("etude", case, tmp_path / "resumed", resume=str(whole.folder / "checkpoint-6"))
    helpers.assert_identical(resumed.weights, whole.weights)


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_reference_returns_the_operations_only_with_a_bar(disable_tqdm: bool, tmp_path: Path) -> None:
    """`total_flos` is taken out of the row by whoever prints it, before `train()` returns the row."""
    outcomes = run_both(DICT.having(disable_tqdm=disable_tqdm), tmp_path)
    found = {outcome.folder.name: "total_flos" in outcome.output.metrics for outcome in outcomes}
    assert found == {"transformers": not disable_tqdm, "etude": True}
