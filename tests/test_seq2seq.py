"""Does ``Seq2SeqTrainer`` generate, pad and measure what the reference's does?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import etude
from etude.errors import ConfigurationError, UnsupportedOptionError
from tests import helpers
from tests.distributed.launch import run_ranks

# What transformers says to a call of ``generate`` for a decoder without any length.
pytestmark = pytest.mark.filterwarnings("ignore:Using the model-agnostic default")
PAD, EOS, START = 0, 1, 2
ROWS = 12  # batches of four: the reference counts the samples of a smaller last batch as often as those of a full one
LIBRARIES = ("transformers", "etude")
TOKENIZER = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS, save_pretrained=lambda folder: None)


# --- models and data ----------------------------------------------------------------------------------------------


def t5() -> nn.Module:
    """A one-layer T5 with random weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(5)
    config = T5Config(
        vocab_size=helpers.VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        decoder_start_token_id=PAD,
        pad_token_id=PAD,
        eos_token_id=EOS,
        tie_word_embeddings=False,
    )
    return T5ForConditionalGeneration(config)


def bart() -> nn.Module:
    """A one-layer BART with random weights."""
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(5)
    config = BartConfig(
        vocab_size=helpers.VOCABULARY,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        dropout=0.0,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=EOS,
        decoder_start_token_id=START,
        forced_eos_token_id=None,
    )
    return BartForConditionalGeneration(config)


def gpt2() -> nn.Module:
    """The language model of the helpers, with a padding token."""
    torch.manual_seed(5)
    model = helpers.gpt2_model()
    model.config.pad_token_id = model.generation_config.pad_token_id = PAD
    model.config.eos_token_id = model.generation_config.eos_token_id = EOS
    return model


def pairs(count: int, seed: int = 3) -> helpers.Rows:
    """Sources of 3 to 9 tokens, and as targets their first half."""
    rows = [row["input_ids"] for row in helpers.text_rows(count, seed).rows]
    return helpers.Rows([{"input_ids": ids, "labels": [*ids[: len(ids) // 2], EOS]} for ids in rows])


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad sources with the padding token and targets with -100."""

    def pad(name: str, value: int) -> torch.Tensor:
        sequences = [torch.tensor(row[name]) for row in rows]
        return nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value)

    batch = {"input_ids": pad("input_ids", PAD)}
    batch["attention_mask"] = (batch["input_ids"] != PAD).long()
    if "labels" in rows[0]:
        batch["labels"] = pad("labels", helpers.IGNORED)
    return batch


def collate_with_decoder_inputs(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The same, with decoder inputs made from the labels, as ``DataCollatorForSeq2Seq`` adds for a model."""
    batch = collate(rows)
    shifted = batch["labels"].roll(1, dims=1).masked_fill(batch["labels"].roll(1, dims=1) < 0, PAD)
    shifted[:, 0] = PAD
    return {**batch, "decoder_input_ids": shifted}


def left_padded(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Prompts for a decoder: padded on the left, each token its own label."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([[PAD] * (width - len(row["input_ids"])) + row["input_ids"] for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": (ids != PAD).long(),
        "labels": ids.masked_fill(ids == PAD, helpers.IGNORED),
    }


def token_counts(prediction: Any) -> dict[str, float]:
    """Numbers that depend on every generated token and every label, and on the padding."""
    predictions, labels = prediction
    return {
        "rows": len(predictions),
        "width": predictions.shape[1],
        "tokens": float((predictions * np.arange(1, predictions.shape[1] + 1)).sum()),
        "labels": float((labels * np.arange(1, labels.shape[1] + 1)).sum()),
    }


def build(lib: ModuleType, folder: Path, model: nn.Module, collator: Any = collate, **fields: Any) -> Any:
    """A ``Seq2SeqTrainer`` of ``lib`` that predicts with generate."""
    options = {name: fields.pop(name) for name in ("compute_metrics", "eval_dataset") if name in fields}
    arguments = {
        "per_device_eval_batch_size": 4,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "predict_with_generate": True,
        "remove_unused_columns": False,
        "seed": 7,
    }
    return lib.Seq2SeqTrainer(
        model=model,
        args=lib.Seq2SeqTrainingArguments(output_dir=str(folder), **{**arguments, **fields}),
        data_collator=collator,
        processing_class=TOKENIZER,
        train_dataset=pairs(16, seed=4),
        **{"eval_dataset": pairs(ROWS), "compute_metrics": token_counts, **options},
    )


# --- against the reference ----------------------------------------------------------------------------------------

CALLS: dict[str, Mapping[str, Any]] = {
    "defaults": {},
    "short": {"max_length": 6},
    "longer-than-configured": {"max_length": 25},
    "new-tokens": {"max_new_tokens": 4},
    "beams": {"num_beams": 3, "max_length": 12},
    "unset": {"num_beams": None, "max_length": None, "eos_token_id": None, "forced_eos_token_id": 7},
    "several-sequences": {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 9},
}
FIELDS: dict[str, Mapping[str, Any]] = {
    "arguments": {"generation_max_length": 7, "generation_num_beams": 2},
    "loss-only": {"prediction_loss_only": True},
    "smoothed": {"label_smoothing_factor": 0.2},
    "not-generating": {"predict_with_generate": False, "compute_metrics": None},
}
MODELS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "t5": (t5, collate),
    "bart": (bart, collate),
    "decoder-inputs": (t5, collate_with_decoder_inputs),
    "gpt2": (gpt2, left_padded),
}
CASES = [
    *[(model, {}, call) for model in MODELS for call in ("new-tokens", "several-sequences")],
    *[("t5", {}, call) for call in CALLS if call not in ("new-tokens", "several-sequences")],
    *[("t5", FIELDS[name], "defaults") for name in ("arguments", "loss-only", "not-generating")],
    ("t5", FIELDS["arguments"], "new-tokens"),
    ("decoder-inputs", FIELDS["smoothed"], "new-tokens"),
]
IDS = [f"{model}-{'-'.join(fields)}-{call}" for model, fields, call in CASES]


@pytest.mark.parametrize(("model", "fields", "call"), CASES, ids=IDS)
def test_predictions_labels_and_metrics_equal_the_reference(
    model: str, fields: Mapping[str, Any], call: str, tmp_path: Path
) -> None:
    make, collator = MODELS[model]
    outputs = {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = build(lib, tmp_path / name, make(), collator, **fields)
            trainer.evaluate(
                **CALLS[call]
            )  # the first batch of the reference may be a token longer than all others
            outputs[name] = (trainer.predict(pairs(ROWS), **CALLS[call]), trainer.evaluate(**CALLS[call]))
    (ours, our_metrics), (theirs, their_metrics) = outputs["etude"], outputs["transformers"]
    if theirs.predictions is None:
        assert ours.predictions is None
    elif isinstance(theirs.predictions, tuple):
        assert len(ours.predictions) == len(theirs.predictions)
        np.testing.assert_allclose(ours.predictions[0], theirs.predictions[0], rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(ours.predictions, theirs.predictions)
    if theirs.label_ids is not None:
        np.testing.assert_array_equal(ours.label_ids, theirs.label_ids)
    for mine, reference in ((ours.metrics, theirs.metrics), (our_metrics, their_metrics)):
        mine, reference = helpers.without_timing([mine, reference])
        assert mine == pytest.approx(reference, rel=1e-5)


def test_a_generation_config_of_the_arguments_equals_the_reference(tmp_path: Path) -> None:
    """Given as an object, as a folder and as a file: always the same tokens, and the caller's object stays its own."""
    from transformers import GenerationConfig

    given = GenerationConfig(
        max_new_tokens=23, num_beams=2, decoder_start_token_id=PAD, pad_token_id=PAD, eos_token_id=EOS
    )
    given.save_pretrained(tmp_path)
    found = []
    for name in LIBRARIES:
        for source in (given, str(tmp_path), tmp_path / "generation_config.json"):
            with helpers.library(name) as lib:
                trainer = build(lib, tmp_path / name, t5(), generation_config=source)
                assert trainer.model.generation_config is not given
                found.append(trainer.predict(pairs(ROWS)).predictions)
    assert found[0].shape == (ROWS, 24)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_training_with_generation_equals_the_reference(tmp_path: Path) -> None:
    """Losses, generated metrics at every epoch and the best model of a whole run are the same."""
    histories = {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = build(
                lib,
                tmp_path / name,
                t5(),
                per_device_train_batch_size=4,
                num_train_epochs=2,
                learning_rate=1e-2,
                logging_steps=1,
                eval_strategy="epoch",
                save_strategy="epoch",
                load_best_model_at_end=True,
                metric_for_best_model="tokens",
                generation_max_length=8,
            )
            trainer.train()
            histories[name] = helpers.without_timing(trainer.state.log_history)
    assert len(histories["etude"]) == len(histories["transformers"]) == 11
    for mine, reference in zip(histories["etude"], histories["transformers"], strict=True):
        reference.pop("total_flos", None)
        mine.pop("total_flos", None)
        assert mine == pytest.approx(reference, rel=1e-4)


def question_answering_trainer(lib: ModuleType) -> Any:
    """A subclass as the well-known script for generated answers has it: its own evaluation, metrics computed after."""

    class QuestionAnsweringTrainer(lib.Seq2SeqTrainer):  # type: ignore[misc, name-defined]
        def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval", **gen_kwargs):  # type: ignore[no-untyped-def]
            if gen_kwargs.get("max_length") is None and self.args.generation_max_length is not None:
                gen_kwargs["max_length"] = self.args.generation_max_length
            self._gen_kwargs = gen_kwargs
            loader = self.get_eval_dataloader(self.eval_dataset if eval_dataset is None else eval_dataset)
            compute_metrics, self.compute_metrics = self.compute_metrics, None
            try:
                output = self.evaluation_loop(
                    loader,
                    description="Evaluation",
                    ignore_keys=ignore_keys,
                    metric_key_prefix=metric_key_prefix,
                )
            finally:
                self.compute_metrics = compute_metrics
            found = self.compute_metrics((output.predictions, output.label_ids))
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()} | output.metrics
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    return QuestionAnsweringTrainer


def test_a_subclass_with_its_own_evaluation_equals_the_reference(tmp_path: Path) -> None:
    histories = []
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            kinds = {
                "Seq2SeqTrainer": question_answering_trainer(lib),
                "Seq2SeqTrainingArguments": lib.Seq2SeqTrainingArguments,
            }
            fields = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "generation_max_length": 9}
            trainer = build(SimpleNamespace(**kinds), tmp_path / name, t5(), learning_rate=1e-2, **fields)
            trainer.train()
            histories.append(helpers.without_timing(trainer.state.log_history)[:2])
    assert [row["eval_width"] for row in histories[1]] == [20, 20]
    for reference, mine in zip(*histories, strict=True):
        assert mine == pytest.approx(reference, rel=1e-4)


# --- what only we promise -----------------------------------------------------------------------------------------


def test_options_reach_every_one_of_several_sets(tmp_path: Path) -> None:
    sets = {"few": pairs(3), "many": pairs(5)}
    trainer = build(etude, tmp_path, t5(), eval_dataset=sets, generation_num_beams=2)
    together = trainer.evaluate(max_length=23, num_return_sequences=2)
    assert together["eval_few_rows"] == 6
    assert together["eval_many_rows"] == 10
    assert together["eval_many_width"] == 23


def test_a_subclass_that_takes_no_options_can_have_several_sets(tmp_path: Path) -> None:
    class Narrow(etude.Seq2SeqTrainer):
        def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):  # type: ignore[no-untyped-def, override]
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    args = etude.Seq2SeqTrainingArguments(
        output_dir=str(tmp_path), predict_with_generate=True, generation_max_length=5, disable_tqdm=True
    )
    trainer = Narrow(t5(), args, collate, eval_dataset={"a": pairs(2)}, compute_metrics=token_counts)
    assert trainer.evaluate()["eval_a_rows"] == 2


def test_without_labels_there_are_only_tokens(tmp_path: Path) -> None:
    rows = helpers.Rows([{"input_ids": row["input_ids"]} for row in pairs(5).rows])
    trainer = build(etude, tmp_path, t5())
    output = trainer.predict(rows, max_length=5)
    assert output.predictions.shape == (5, 20)
    assert output.label_ids is None
    assert "test_loss" not in output.metrics


def test_every_sample_counts_once(tmp_path: Path) -> None:
    """The loss over a set that ends in a smaller batch is the mean over its samples."""
    rows = [{**row, "labels": row["labels"][:2]} for row in pairs(ROWS).rows]  # as many labels in every row
    trainer = build(etude, tmp_path, t5())
    whole, *parts = (
        trainer.evaluate(helpers.Rows(part))["eval_loss"]
        for part in (rows[:10], rows[:4], rows[4:8], rows[8:10])
    )
    assert whole == pytest.approx((4 * parts[0] + 4 * parts[1] + 2 * parts[2]) / 10, rel=1e-6)


def test_every_batch_may_be_equally_long(tmp_path: Path) -> None:
    """Without any length given, as the reference has it from its second batch on; a decoder makes 20 new tokens."""
    assert build(etude, tmp_path, t5()).predict(pairs(ROWS)).predictions.shape == (ROWS, 20)
    trainer = build(etude, tmp_path, gpt2(), left_padded, per_device_eval_batch_size=1)
    output = trainer.predict(helpers.Rows([row for row in pairs(ROWS).rows if len(row["input_ids"]) == 7]))
    assert output.predictions.shape[1] == 27


def test_the_loss_is_that_of_compute_loss(tmp_path: Path) -> None:
    """A loss of the user's own is the evaluation loss too, whether or not the model generates."""
    losses = []
    for generates in (True, False):
        trainer = build(
            etude,
            tmp_path,
            t5(),
            collate_with_decoder_inputs,
            predict_with_generate=generates,
            compute_metrics=None,
        )
        trainer.compute_loss_func = lambda outputs, labels, num_items_in_batch=None: outputs.logits.mean()
        losses.append(trainer.predict(pairs(ROWS)).metrics["test_loss"])
    assert losses[0] == losses[1]


def test_model_init_gets_the_generation_config_too(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    args = etude.Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        disable_tqdm=True,
        generation_config=GenerationConfig(max_length=9),
    )
    trainer = etude.Seq2SeqTrainer(args=args, model_init=t5, data_collator=collate, train_dataset=pairs(8))
    trainer.train()
    assert trainer.model.generation_config.max_length == 9


def test_evaluations_leave_the_generation_config_alone(tmp_path: Path) -> None:
    """The reference fills it up with defaults, which every later checkpoint then carries."""
    trainer = build(etude, tmp_path, t5())
    before = trainer.model.generation_config.to_dict()
    trainer.evaluate(max_length=6)
    assert trainer.model.generation_config.to_dict() == before


# --- errors -------------------------------------------------------------------------------------------------------


def test_a_contradictory_generation_config_is_refused_at_once(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    contradictory = GenerationConfig(do_sample=False, top_p=0.9)
    for name in LIBRARIES:
        with helpers.library(name) as lib, pytest.raises(ValueError, match="top_p"):
            build(lib, tmp_path, t5(), generation_config=contradictory)


def test_padding_must_be_possible(tmp_path: Path) -> None:
    model = t5()
    model.config.pad_token_id = None
    args = etude.Seq2SeqTrainingArguments(output_dir=str(tmp_path), predict_with_generate=True)
    with pytest.raises(ConfigurationError, match="processing_class"):
        etude.Seq2SeqTrainer(model, args)


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path: Path) -> None:
    trainer = build(etude, tmp_path, t5())
    trainer.processing_class = SimpleNamespace(pad_token_id=None, eos_token_id=41)
    assert (trainer.predict(pairs(3), max_length=4).predictions[:, 4:] == 41).all()


def test_generating_needs_a_model_that_can(tmp_path: Path) -> None:
    args = etude.Seq2SeqTrainingArguments(output_dir=str(tmp_path), predict_with_generate=True)
    with pytest.raises(ConfigurationError, match="`generate`"):
        etude.Seq2SeqTrainer(helpers.DictClassifier(), args)


def test_plain_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Seq2SeqTrainingArguments"):
        etude.Seq2SeqTrainer(t5(), etude.TrainingArguments(output_dir=str(tmp_path)))


def test_arguments_that_cannot_work() -> None:
    with pytest.raises(UnsupportedOptionError, match="group_by_length"):
        etude.Seq2SeqTrainingArguments(sortish_sampler=True)
    with pytest.raises(ConfigurationError, match="generation_num_beams"):
        etude.Seq2SeqTrainingArguments(generation_num_beams=0)


def test_arguments_are_plain_values() -> None:
    from transformers import GenerationConfig

    args = etude.Seq2SeqTrainingArguments(generation_config=GenerationConfig(max_length=9))
    assert args.to_dict()["generation_config"]["max_length"] == 9
    assert '"max_length": 9' in args.to_json_string()


# --- several processes --------------------------------------------------------------------------------------------


def predict_and_leave(folder: Path) -> None:
    """What every rank runs: an uneven set, more than one sequence a sample."""
    trainer = build(etude, folder, t5(), per_device_eval_batch_size=2)
    output = trainer.predict(pairs(9), num_beams=2, num_return_sequences=2, max_length=23)
    if trainer.args.world.is_main:
        torch.save(
            [torch.from_numpy(output.predictions), torch.from_numpy(output.label_ids)], folder / "output.pt"
        )
        torch.save(
            {k: v for k, v in output.metrics.items() if not k.endswith(helpers.TIMING_SUFFIXES)},
            folder / "m.pt",
        )


@pytest.mark.slow
@pytest.mark.distributed
def test_two_ranks_predict_what_one_does(tmp_path: Path) -> None:
    results = []
    for world in (1, 2):
        folder = tmp_path / str(world)
        folder.mkdir()
        run_ranks(predict_and_leave, folder, world)
        results.append((torch.load(folder / "output.pt"), torch.load(folder / "m.pt")))
    (alone, metrics), (shared, shared_metrics) = results
    assert alone[0].shape[0] == 18
    for mine, reference in zip(shared, alone, strict=True):
        assert torch.equal(mine, reference)
    assert shared_metrics == pytest.approx(metrics, rel=1e-6)
