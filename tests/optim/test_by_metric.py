"""Do schedules that go by a metric move after an evaluation, and only then?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import etude
from etude.errors import ConfigurationError, MetricError
from etude.optim.by_metric import needs_metric, per_update
from tests import helpers

EVALUATED = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 12}
GREEDY = {"patience": 0, "factor": 0.5, "min_lr": 1e-4}


def sgd() -> Any:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)


SCHEDULES = {
    "constant": (lambda o: etude.get_scheduler("constant", o), False),
    "one-cycle": (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10), False),
    "sequential": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]
        ),
        False,
    ),
    "plateau": (lr_scheduler.ReduceLROnPlateau, True),
    "greedy": (etude.GreedyLR, True),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_which_schedules_need_a_metric(name: str) -> None:
    make, by_metric = SCHEDULES[name]
    optimizer = sgd()
    schedule = make(optimizer)
    assert needs_metric(schedule) is by_metric
    stepped = per_update(schedule, optimizer)
    assert (stepped is schedule) is not by_metric
    optimizer.step()
    stepped.step()
    assert stepped.get_last_lr() == [group["lr"] for group in optimizer.param_groups]


def test_the_references_greedy_schedule_needs_one_too() -> None:
    from transformers import GreedyLR

    assert needs_metric(GreedyLR(sgd()))


def trainer(lib: Any, folder: Any, cls: str = "Trainer", **fields: Any) -> Any:
    torch.manual_seed(0)
    return getattr(lib, cls)(
        helpers.DictClassifier(),
        helpers.training_arguments(lib, folder, **{**EVALUATED, **fields}),
        train_dataset=helpers.feature_rows(24, seed=1),
        eval_dataset=helpers.feature_rows(19, seed=2),
        compute_metrics=helpers.accuracy,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5}},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "eval_accuracy",
         "lr_scheduler_kwargs": {"patience": 0, "mode": "max"}, "learning_rate": 0.3},
        {"lr_scheduler_type": "greedy", "lr_scheduler_kwargs": GREEDY, "eval_on_start": True},
    ],
    ids=["plateau", "plateau-accuracy", "greedy"],
)  # fmt: skip
def test_rows_are_those_of_the_reference(fields: dict[str, Any], tmp_path: Any) -> None:
    rows = []
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            run = trainer(lib, tmp_path / library, **fields)
            run.train()
            rows.append(helpers.without_timing(run.state.log_history))
    for theirs, ours in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert len({row["learning_rate"] for row in rows[1] if "learning_rate" in row}) > 1


@pytest.mark.parametrize(("metric", "mode"), [(None, "min"), ("loss", "min"), ("accuracy", "max")])
@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "greedy"])
def test_the_direction_is_that_of_the_metric(name: str, metric: str | None, mode: str, tmp_path: Any) -> None:
    run = trainer(etude, tmp_path, lr_scheduler_type=name, metric_for_best_model=metric)
    run.create_optimizer_and_scheduler(10)
    assert run.lr_scheduler.mode == mode


def test_a_metric_that_is_not_there_is_an_error(tmp_path: Any) -> None:
    run = trainer(etude, tmp_path, lr_scheduler_type="greedy", metric_for_best_model="f1")
    with pytest.raises(MetricError, match="'f1'.*eval_accuracy"):
        run.train()


def test_they_need_evaluations() -> None:
    with pytest.raises(ConfigurationError, match="requires an `eval_strategy`"):
        helpers.training_arguments(etude, "x", lr_scheduler_type="reduce_lr_on_plateau")


def test_a_resumed_run_is_the_same(tmp_path: Any) -> None:
    fields = {
        "lr_scheduler_type": "greedy",
        "lr_scheduler_kwargs": GREEDY,
        "save_strategy": "steps",
        "save_steps": 4,
    }
    whole = trainer(etude, tmp_path, **fields)
    whole.train()
    again = trainer(etude, tmp_path, **fields)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    helpers.assert_identical(again.model.state_dict(), whole.model.state_dict())
    assert again.lr_scheduler.state_dict() == whole.lr_scheduler.state_dict()


@pytest.mark.parametrize("name", SCHEDULES)
def test_any_schedule_may_be_given(name: str, tmp_path: Any) -> None:
    make, _ = SCHEDULES[name]
    rows = []
    for library in ("transformers", "etude"):
        with helpers.library(library) as lib:
            torch.manual_seed(0)
            model = helpers.DictClassifier()
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
            args = helpers.training_arguments(
                lib, tmp_path / library, max_steps=6, eval_strategy="steps", eval_steps=2,
                metric_for_best_model="loss",
            )  # fmt: skip
            run = lib.Trainer(
                model, args, train_dataset=helpers.feature_rows(24), eval_dataset=helpers.feature_rows(8),
                optimizers=(optimizer, lib.GreedyLR(optimizer) if name == "greedy" else make(optimizer)),
            )  # fmt: skip
            run.train()
            rows.append(helpers.without_timing(run.state.log_history))
    for theirs, ours in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
