from __future__ import annotations

import logging
import os

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import etude
from etude import Trainer
from etude.errors import UnsupportedOptionError
from tests import helpers


def arguments(folder, **fields):
    return helpers.training_arguments(etude, folder, **fields)


def trainer(folder, model=None, **fields) -> Trainer:
    rows = helpers.feature_rows(16)
    return Trainer(
        model or helpers.DictClassifier(), arguments(folder, **fields), train_dataset=rows, eval_dataset=rows
    )


def test_full_determinism_lasts(tmp_path, monkeypatch):
    for name in ("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    try:
        trainer(tmp_path, full_determinism=True, max_steps=1).train()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def test_a_model_that_is_evaluated_in_half_precision_keeps_its_weights(tmp_path):
    model = helpers.DictClassifier()
    before = helpers.weights_of(model)
    seen = []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    evaluated = trainer(tmp_path, model, bf16_full_eval=True)
    metrics = evaluated.evaluate()
    assert set(seen) == {torch.bfloat16}
    helpers.assert_identical(helpers.weights_of(model), before)
    assert metrics["eval_loss"] == pytest.approx(trainer(tmp_path, model).evaluate()["eval_loss"], rel=2e-2)


def test_evaluations_inside_a_training_are_in_its_own_precision(tmp_path):
    model = helpers.DictClassifier()
    seen = []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer(tmp_path, model, bf16_full_eval=True, max_steps=2, eval_strategy="steps", eval_steps=1).train()
    assert set(seen) == {torch.float32}


class MultiLabel(BertForSequenceClassification):
    pass


def test_smoothing_is_off_for_several_labels_at_once_and_says_so(tmp_path):
    config = BertConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        problem_type="multi_label_classification",
    )
    with pytest.warns(UserWarning, match="multi-label"):
        made = trainer(tmp_path, MultiLabel(config), label_smoothing_factor=0.1)
    assert made.label_smoother is None


def test_searching_for_a_batch_size_needs_one_process(tmp_path, monkeypatch):
    made = trainer(tmp_path, auto_find_batch_size=True, max_steps=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UnsupportedOptionError, match=r"auto_find_batch_size.*per_device_train_batch_size"):
        made.train()


def test_special_tokens_of_the_tokenizer_reach_the_model(tmp_path, caplog):
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"[UNK]": 0, "[PAD]": 1, "[EOS]": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Backend(WordLevel(vocabulary, unk_token="[UNK]")),
        pad_token="[PAD]",
        eos_token="[EOS]",
    )
    model = helpers.gpt2_model()
    old_end = model.config.eos_token_id = model.generation_config.eos_token_id = 7
    made = Trainer(
        model,
        arguments(tmp_path, max_steps=1),
        train_dataset=helpers.sequence_rows(8),
        data_collator=helpers.pad_texts,
        processing_class=tokenizer,
    )
    from etude.models.special_tokens import align_special_tokens

    with caplog.at_level(logging.WARNING):
        changed = align_special_tokens(made.model, tokenizer)
    assert changed == {"eos_token_id": 2, "pad_token_id": 1}
    assert model.config.pad_token_id == model.generation_config.pad_token_id == 1
    assert model.config.eos_token_id == 2
    assert model.generation_config.eos_token_id == [2, old_end]
    assert caplog.text.count("special tokens") == 1
    assert align_special_tokens(made.model, tokenizer) == {}


class Tied(nn.Module):
    """A plain module whose output layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(helpers.VOCABULARY, 8)
        self.head = nn.Linear(8, helpers.VOCABULARY, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, input_ids, labels=None):
        logits = self.head(self.embed(input_ids))
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def test_tied_weights_of_a_plain_module_are_saved_once_and_resumed(tmp_path):
    rows = helpers.Rows([{"input_ids": torch.arange(4), "labels": torch.arange(1, 5)}] * 8)

    def run(folder, steps, resume=None):
        torch.manual_seed(0)
        made = Trainer(
            Tied(),
            arguments(
                tmp_path / folder,
                max_steps=steps,
                save_strategy="steps",
                save_steps=2,
                lr_scheduler_type="constant",
            ),
            train_dataset=rows,
        )
        made.train(resume_from_checkpoint=resume)
        return made

    whole = run("whole", 4)
    run("cut", 2)
    resumed = run("cut", 4, resume=True)
    assert resumed.model.head.weight is resumed.model.embed.weight
    helpers.assert_identical(helpers.weights_of(resumed.model), helpers.weights_of(whole.model))
