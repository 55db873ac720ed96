"""Are the evaluations of a run found in its log?"""

from __future__ import annotations

from etude.report.history import evaluations


def test_evaluations_of_several_sets_share_a_row() -> None:
    log = [
        {"loss": 1.0, "step": 3, "epoch": 1.0},
        {
            "eval_a_accuracy": 0.75,
            "eval_a_loss": 0.5,
            "eval_a_steps_per_second": 9.0,
            "step": 3,
            "epoch": 1.0,
        },
        {"eval_b_loss": 0.25, "eval_b_runtime": 1.0, "step": 3, "epoch": 1.0},
        {"train_runtime": 9.0, "step": 4, "epoch": 1.0},
        {"eval_a_loss": 0.125, "step": 4, "epoch": 1.5},
    ]
    first, second = evaluations(log)
    assert list(first.items()) == [
        ("Epoch", 1.0), ("Step", 3), ("Training Loss", 1.0), ("A Loss", 0.5), ("A Accuracy", 0.75), ("B Loss", 0.25),
    ]  # fmt: skip
    assert second == {"Epoch": 1.5, "Step": 4, "Training Loss": 1.0, "A Loss": 0.125}


def test_an_evaluation_without_training_has_no_training_loss() -> None:
    assert evaluations([{"eval_f1_macro": 0.5, "step": 0}]) == [
        {"Epoch": None, "Step": 0, "Training Loss": None, "F1 Macro": 0.5}
    ]
    assert evaluations([]) == []
