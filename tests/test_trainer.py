"""Does the Trainer take what people bring, and is it afterwards what they expect?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

import etude
from tests import helpers


class Stream(IterableDataset):
    """Rows without a length."""

    def __init__(self, rows: helpers.Rows) -> None:
        self.rows = rows.rows

    def __iter__(self) -> Iterator[Any]:
        yield from self.rows


def trainer_of(folder: Path, lib: Any = etude, args: dict[str, Any] | None = None, **parts: Any) -> Any:
    lib.set_seed(1)
    fields = helpers.training_arguments(lib, folder, **{"num_train_epochs": 1, **(args or {})})
    defaults = {"train_dataset": helpers.feature_rows(12), "eval_dataset": helpers.feature_rows(9, seed=1)}
    model = {} if "model" in parts or "model_init" in parts else {"model": helpers.DictClassifier()}
    return lib.Trainer(args=fields, **{**defaults, **model, **parts})


def losses_of(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_public_attributes_are_there(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    with helpers.library("transformers") as lib:
        theirs = trainer_of(tmp_path, lib)
    for name in ("label_names", "can_return_loss", "model_accepts_loss_kwargs", "is_in_train", "optimizer",
                 "lr_scheduler", "compute_metrics", "processing_class"):  # fmt: skip
        assert getattr(trainer, name) == getattr(theirs, name), name
    assert trainer.model is trainer.model_wrapped
    assert trainer.is_world_process_zero()
    assert trainer.is_local_process_zero()
    assert isinstance(trainer.state, etude.TrainerState)
    assert isinstance(trainer.control, etude.TrainerControl)
    assert trainer.get_num_trainable_parameters() == theirs.get_num_trainable_parameters()


def test_after_training_the_parts_can_be_looked_at(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, args={"lr_scheduler_type": "constant", "weight_decay": 0.1})
    output = trainer.train()
    assert output.global_step == trainer.state.global_step == 3
    assert output.training_loss == pytest.approx(np.mean(losses_of(trainer)), rel=1e-5)
    assert trainer.get_learning_rates() == [1e-2, 1e-2]
    weight = trainer.model.head.weight
    assert trainer.get_optimizer_group(weight)["weight_decay"] == 0.1
    assert any(weight is p for p in trainer.get_optimizer_group()[0])
    assert not trainer.is_in_train
    assert all(p.grad is None for p in trainer.model.parameters())


@pytest.mark.parametrize("name", ["transformers", "etude"])
def test_training_twice_goes_on_from_the_weights_with_a_new_schedule(name: str, tmp_path: Path) -> None:
    with helpers.library(name) as lib:
        trainer = trainer_of(tmp_path, lib)
        trainer.train()
        after_one, optimizer, schedule = (
            helpers.weights_of(trainer.model),
            trainer.optimizer,
            trainer.lr_scheduler,
        )
        trainer.train()
    assert trainer.state.global_step == 3
    assert helpers.relative_difference(helpers.weights_of(trainer.model), after_one) > 0
    assert trainer.optimizer is optimizer
    assert trainer.lr_scheduler is not schedule
    assert len(losses_of(trainer)) == 3


def test_training_twice_gives_the_references_numbers(tmp_path: Path) -> None:
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            trainer = trainer_of(tmp_path / name, lib)
            trainer.train()
            trainer.train()
            found.append(losses_of(trainer))
    assert found[1] == pytest.approx(found[0], rel=1e-6)


@pytest.mark.parametrize("with_trial", [False, True])
def test_a_model_made_anew_trains_the_same_each_time(with_trial: bool, tmp_path: Path) -> None:
    made = (lambda trial: helpers.DictClassifier()) if with_trial else (lambda: helpers.DictClassifier())
    trainer = trainer_of(tmp_path, model_init=made)
    first_model = trainer.model
    trainer.train()
    first, model = losses_of(trainer), trainer.model
    trainer.train()
    assert losses_of(trainer) == first
    assert len({id(m) for m in (first_model, model, trainer.model)}) == 3
    assert any(trainer.model.head.weight is p for p in trainer.get_optimizer_group()[0])


def tables(rows: helpers.Rows) -> dict[str, Any]:
    plain = [
        {"features": row["features"].tolist(), "labels": row["labels"], "id": 1, "text": "t"}
        for row in rows.rows
    ]
    table = datasets.Dataset.from_list(plain)
    return {"list": list(plain), "table": table, "torch table": table.with_format("torch"), "rows": rows}


@pytest.mark.parametrize("kind", tables(helpers.feature_rows(1)))
def test_kinds_of_data_sets_give_the_same_training(kind: str, tmp_path: Path) -> None:
    expected = trainer_of(tmp_path)
    expected.train()
    trainer = trainer_of(tmp_path, train_dataset=tables(helpers.feature_rows(12))[kind])
    trainer.train()
    assert losses_of(trainer) == pytest.approx(losses_of(expected), rel=1e-6)


@pytest.mark.parametrize("kind", ["stream", "table stream"])
def test_streams_are_trained_on_in_their_order(kind: str, tmp_path: Path) -> None:
    rows = helpers.feature_rows(12)
    stream = Stream(rows) if kind == "stream" else tables(rows)["torch table"].to_iterable_dataset()
    expected = trainer_of(tmp_path, args={"train_sampling_strategy": "sequential"}, train_dataset=rows)
    expected.train()
    trainer = trainer_of(tmp_path, args={"max_steps": 3, "lr_scheduler_type": "linear"}, train_dataset=stream)
    trainer.train()
    assert losses_of(trainer) == pytest.approx(losses_of(expected), rel=1e-6)


def test_a_stream_is_begun_again_until_the_steps_are_done(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, args={"max_steps": 7}, train_dataset=Stream(helpers.feature_rows(12)))
    assert trainer.train().global_step == 7


def test_several_evaluation_sets_have_their_own_names(tmp_path: Path) -> None:
    sets = {"one": helpers.feature_rows(8, seed=1), "two": Stream(helpers.feature_rows(9, seed=2))}
    trainer = trainer_of(tmp_path, eval_dataset=sets, compute_metrics=helpers.accuracy)
    together = trainer.evaluate()
    for name, data in sets.items():
        alone = trainer.evaluate(data)
        assert together[f"eval_{name}_loss"] == alone["eval_loss"]
        assert together[f"eval_{name}_accuracy"] == alone["eval_accuracy"]
        assert trainer.evaluate(name)["eval_loss"] == alone["eval_loss"]
    logged = [row for row in trainer.state.log_history if "eval_one_loss" in row]
    assert len(logged) == 1
    assert "eval_two_loss" not in logged[0]


def test_the_best_model_can_be_chosen_by_one_of_several_sets(tmp_path: Path) -> None:
    args = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True,
            "metric_for_best_model": "eval_one_loss", "num_train_epochs": 2}  # fmt: skip
    trainer = trainer_of(tmp_path, args=args, eval_dataset={"one": helpers.feature_rows(8, seed=1)})
    trainer.train()
    logged = [row["eval_one_loss"] for row in trainer.state.log_history if "eval_one_loss" in row]
    assert trainer.state.best_metric == min(logged)


def test_evaluating_leaves_the_random_state_alone(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, model=helpers.DictClassifier(dropout=0.5))
    state = torch.random.get_rng_state()
    trainer.evaluate()
    trainer.predict(helpers.feature_rows(5))
    assert torch.equal(torch.random.get_rng_state(), state)


class Tokenizer:
    """Something that is saved with the model."""

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "vocabulary.txt").write_text("words")


def test_an_older_name_of_the_tokenizer_is_taken(tmp_path: Path) -> None:
    tokenizer = Tokenizer()
    with pytest.warns(FutureWarning, match="processing_class") as caught:
        trainer = trainer_of(tmp_path, tokenizer=tokenizer)
    assert len(caught) == 1
    assert trainer.processing_class is tokenizer
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "vocabulary.txt").read_text() == "words"


def test_ready_optimizers_are_used(tmp_path: Path) -> None:
    model = helpers.DictClassifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    trainer = trainer_of(tmp_path, model=model, optimizers=(optimizer, schedule))
    trainer.train()
    assert (trainer.optimizer, trainer.lr_scheduler) == (optimizer, schedule)
    assert [row["learning_rate"] for row in trainer.state.log_history if "loss" in row] == [0.5, 0.25, 0.125]


def test_a_ready_optimizer_gets_a_schedule(tmp_path: Path) -> None:
    model = helpers.DictClassifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer = trainer_of(tmp_path, model=model, optimizers=(optimizer, None))
    trainer.train()
    assert trainer.optimizer is optimizer
    assert trainer.lr_scheduler.base_lrs == [0.5]


def test_an_optimizer_class_is_given_the_groups(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path,
        args={"weight_decay": 0.1},
        optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.3, "momentum": 0.9}),
    )
    trainer.train()
    assert type(trainer.optimizer) is torch.optim.SGD
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.1, 0.0]
    assert trainer.optimizer.param_groups[0]["momentum"] == 0.9


def test_an_optimizer_class_may_bring_its_own_parameters(tmp_path: Path) -> None:
    model = helpers.DictClassifier()
    options = {"lr": 0.3, "params": [model.head.weight]}
    trainer = trainer_of(tmp_path, model=model, optimizer_cls_and_kwargs=(torch.optim.SGD, options))
    body = model.body[0].weight.detach().clone()
    trainer.train()
    assert torch.equal(model.body[0].weight, body)
    assert options.keys() == {"lr", "params"}


def summed(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    return cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


def averaged(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    return cross_entropy(outputs["logits"], labels)


@pytest.mark.parametrize("function", [summed, averaged])
def test_a_loss_function_gives_the_models_loss_however_it_divides(function: Any, tmp_path: Path) -> None:
    args = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 5}
    expected = trainer_of(tmp_path, args=args)
    expected.train()
    trainer = trainer_of(tmp_path, args=args, compute_loss_func=function)
    trainer.train()
    assert losses_of(trainer) == pytest.approx(losses_of(expected), rel=1e-5)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.evaluate()["eval_loss"], rel=1e-5)


def test_a_tuple_is_as_good_as_a_dictionary(tmp_path: Path) -> None:
    by_kind = []
    for model in (helpers.DictClassifier, helpers.TupleClassifier):
        torch.manual_seed(3)
        trainer = trainer_of(tmp_path, model=model(), compute_metrics=helpers.accuracy)
        trainer.train()
        by_kind.append((losses_of(trainer), trainer.predict(helpers.feature_rows(7)).predictions.tolist()))
    assert by_kind[0] == by_kind[1]


def unlabelled(count: int) -> helpers.Rows:
    return helpers.Rows([{"features": row["features"]} for row in helpers.feature_rows(count).rows])


@pytest.mark.parametrize("model", [helpers.DictClassifier, helpers.TupleClassifier])
def test_predicting_without_labels(model: Any, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, model=model(), compute_metrics=helpers.accuracy)
    output = trainer.predict(unlabelled(11))
    labelled = trainer.predict(helpers.feature_rows(11))
    assert output.label_ids is None
    assert np.array_equal(output.predictions, labelled.predictions)
    assert set(output.metrics) == {"test_runtime", "test_samples_per_second", "test_steps_per_second"}
    assert set(labelled.metrics) - set(output.metrics) == {"test_loss", "test_accuracy"}
    assert np.array_equal(labelled.label_ids, [row["labels"] for row in helpers.feature_rows(11).rows])


def test_a_saved_model_is_read_by_transformers(tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    trainer = trainer_of(tmp_path, model=helpers.bert_classifier())
    trainer.save_model(str(tmp_path / "saved"))
    loaded = BertForSequenceClassification.from_pretrained(tmp_path / "saved")
    helpers.assert_identical(helpers.weights_of(loaded), helpers.weights_of(trainer.model))
    arguments = json.loads((tmp_path / "saved" / "training_args.json").read_text())
    assert arguments["learning_rate"] == 1e-2
    assert torch.load(tmp_path / "saved" / "training_args.bin", weights_only=False) == trainer.args


def test_state_and_model_go_to_the_output_folder(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "out")
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    assert {"model.safetensors", "trainer_state.json", "log.jsonl"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    state = etude.TrainerState.load_from_json(str(tmp_path / "out" / "trainer_state.json"))
    assert state.log_history == trainer.state.log_history


def test_an_overridden_sampler_gives_the_order(tmp_path: Path) -> None:
    class Sequential(etude.Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset)

    assert order_of(Sequential, tmp_path) == list(range(12))


def test_a_sampler_of_none_is_the_data_sets_own_order(tmp_path: Path) -> None:
    class Without(etude.Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return None

    assert order_of(Without, tmp_path) == list(range(12))


def test_an_overridden_loader_is_used(tmp_path: Path) -> None:
    class Own(etude.Trainer):
        def get_train_dataloader(self) -> Any:
            return DataLoader(self.train_dataset, batch_size=3)

    assert order_of(Own, tmp_path) == list(range(12))


def order_of(trainer_class: Any, folder: Path) -> list[int]:
    """The rows in the order in which the model sees them."""
    seen: list[int] = []

    class Seeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.extend(index.tolist())
            return {"loss": self.weight * index.float().mean()}

    rows = helpers.Rows([{"index": i} for i in range(12)])
    args = helpers.training_arguments(etude, folder, num_train_epochs=1)
    trainer_class(Seeing(), args, train_dataset=rows).train()
    return seen


def test_bf16_trains_and_leaves_nothing_on_the_model(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, args={"bf16": True, "eval_strategy": "epoch"})
    trainer.train()
    assert not trainer.model._forward_hooks
    assert not trainer.model._forward_pre_hooks
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_callbacks_are_added_and_removed_by_class_or_instance(tmp_path: Path) -> None:
    stopping = etude.EarlyStoppingCallback()
    trainer = trainer_of(tmp_path, callbacks=[stopping])
    assert trainer.pop_callback(etude.EarlyStoppingCallback) is stopping
    trainer.add_callback(etude.EarlyStoppingCallback)
    trainer.remove_callback(etude.EarlyStoppingCallback)
    assert "EarlyStoppingCallback" not in trainer.callback_handler.callback_list


def test_methods_that_scripts_call_are_there() -> None:
    with helpers.library("transformers") as lib:
        theirs = {name for name in dir(lib.Trainer) if not name.startswith("_")}
    not_offered = {"hyperparameter_search", "push_to_hub", "create_model_card", "init_hf_repo"}
    accelerates = {"create_accelerator_and_postprocess", "propagate_args_to_deepspeed", "end", "get_sp_size",
                   "get_cp_size", "get_tp_size", "autocast_smart_context_manager"}  # fmt: skip
    inside = {"set_initial_training_values", "get_total_train_batch_size"}
    missing = {name for name in theirs if not hasattr(etude.Trainer, name)}
    assert missing - not_offered - accelerates - inside == set()
