"""One case for each kind of model that people train: tiny, with its data, metric and collator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tests import helpers
from tests.parity.runner import BERT, DICT, GPT2, RETURNS_MEAN, TUPLE, Case

NUM_TAGS = 3
PATCHES = {"image_size": 8, "patch_size": 4, "num_channels": 1}
TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


# --- data ---------------------------------------------------------------------------------------------------------


def pair_rows(count: int, seed: int = 0) -> helpers.Rows:
    """Source and target sequences, the target the start of the source.

    Targets have one length, so that micro-batches weigh alike in both libraries.
    """
    rows = helpers.text_rows(count, seed).rows
    return helpers.Rows([{"input_ids": row["input_ids"], "labels": row["input_ids"][:3]} for row in rows])


def pad_pairs(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Collate sources, targets, and what the decoder gets (label smoothing takes the labels away)."""
    batch = helpers.pad_texts([{"input_ids": row["input_ids"]} for row in rows])
    targets = helpers.pad_texts([{"input_ids": row["labels"]} for row in rows])
    before = nn.functional.pad(targets["input_ids"][:, :-1], (1, 0))
    return {**batch, "labels": targets["labels"], "decoder_input_ids": before}


def tag_rows(count: int, seed: int = 0) -> helpers.Rows:
    """Eight tokens with a tag each, of which six count: micro-batches then weigh alike in both libraries."""
    numbers = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        tokens = numbers.integers(3, helpers.VOCABULARY, size=8)
        tags = np.where(np.isin(np.arange(8), (0, 7)), helpers.IGNORED, tokens % NUM_TAGS)
        rows.append({"input_ids": torch.tensor(tokens), "labels": torch.tensor(tags)})
    return helpers.Rows(rows)


def question_rows(count: int, seed: int = 0) -> helpers.Rows:
    """Eight tokens and where in them an answer begins and ends."""
    numbers = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        begin, end = sorted(numbers.integers(0, 8, size=2).tolist())
        tokens = torch.tensor(numbers.integers(3, helpers.VOCABULARY, size=8))
        rows.append({"input_ids": tokens, "start_positions": begin, "end_positions": end})
    return helpers.Rows(rows)


def image_rows(count: int, seed: int = 0) -> helpers.Rows:
    """Grey images of 8 x 8 with a class."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 1, 8, 8, generator=generator)
    labels = pixels[:, 0, : helpers.NUM_CLASSES, 0].argmax(dim=1)
    return helpers.Rows([{"pixel_values": x, "labels": int(y)} for x, y in zip(pixels, labels, strict=True)])


def several_classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Collate texts with a 0 or 1 for each class."""
    batch = helpers.pad_texts(rows)
    return {**batch, "labels": nn.functional.one_hot(batch["labels"], helpers.NUM_CLASSES).float()}


# --- models -------------------------------------------------------------------------------------------------------


def llama_model(dropout: float = 0.0) -> nn.Module:
    """A two-layer Llama language model with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=helpers.VOCABULARY,
            num_key_value_heads=1,
            max_position_embeddings=32,
            attention_dropout=dropout,
            pad_token_id=0,
            **TRANSFORMER,
        )
    )


def t5_model(dropout: float = 0.0) -> nn.Module:
    """A T5 of one layer each with random weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=helpers.VOCABULARY,
            d_model=32,
            d_kv=16,
            d_ff=48,
            num_layers=1,
            num_decoder_layers=1,
            num_heads=2,
            dropout_rate=dropout,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    )


def bart_model() -> nn.Module:
    """A BART of one layer each with random weights."""
    from transformers import BartConfig, BartForConditionalGeneration

    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 48))
    }
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=helpers.VOCABULARY,
            d_model=32,
            max_position_embeddings=32,
            dropout=0.0,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=2,
            forced_eos_token_id=None,
            **sides,
        )
    )


def vit_classifier() -> nn.Module:
    """A ViT for images of 8 x 8."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(num_labels=helpers.NUM_CLASSES, **PATCHES, **TRANSFORMER, **NO_DROPOUT)
    return ViTForImageClassification(config)


def bert_config(**fields: Any) -> Any:
    """The configuration of a small BERT."""
    from transformers import BertConfig

    sizes = {"vocab_size": helpers.VOCABULARY, "max_position_embeddings": 32}
    return BertConfig(**{**sizes, **TRANSFORMER, **NO_DROPOUT, "num_labels": helpers.NUM_CLASSES, **fields})


def bert_tagger() -> nn.Module:
    """A BERT with a tag for each token."""
    from transformers import BertForTokenClassification

    return BertForTokenClassification(bert_config(num_labels=NUM_TAGS))


def bert_reader() -> nn.Module:
    """A BERT that finds the answer to a question: two outputs, two labels, none of them called so."""
    from transformers import BertForQuestionAnswering

    return BertForQuestionAnswering(bert_config(num_labels=2))


def bert_multi_label() -> nn.Module:
    """A BERT whose classes do not exclude each other."""
    from transformers import BertForSequenceClassification

    return BertForSequenceClassification(bert_config(problem_type="multi_label_classification"))


def frozen_bert() -> nn.Module:
    """A BERT of which only the head is trained."""
    model = helpers.bert_classifier()
    model.bert.requires_grad_(False)  # type: ignore[union-attr]
    return model


def lora_llama() -> nn.Module:
    """A Llama with low-rank adapters from PEFT."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():  # PEFT asks the model for something by its older name
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(llama_model(), config)


class TwoOutputs(helpers.DictClassifier):
    """A plain module that returns more than scores: what it saw on the way, and a pair."""

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, Any]:
        """Scores, hidden values and a nested pair."""
        hidden = self.body(features)
        logits = self.head(hidden)
        outputs = {"logits": logits, "hidden": hidden, "pair": (hidden[:, :2], hidden[:, 2])}
        return outputs if labels is None else {"loss": nn.functional.cross_entropy(logits, labels), **outputs}


class TiedLanguageModel(nn.Module):
    """A plain module whose output layer shares the weights of its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(helpers.VOCABULARY, 16)
        self.mix = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, helpers.VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight

    def get_input_embeddings(self) -> nn.Module:
        """The embedding."""
        return self.embedding

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scores of the next token, and their mean cross-entropy over all tokens."""
        logits = self.head(self.mix(self.embedding(input_ids))[0])
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


def squared_error(prediction: Any) -> dict[str, float]:
    """The mean squared error."""
    return {"mse": float(np.mean((prediction.predictions - prediction.label_ids) ** 2))}


def exact_answers(prediction: Any) -> dict[str, float]:
    """The share of answers whose begin and end are predicted."""
    hits = [
        scores.argmax(-1) == labels
        for scores, labels in zip(prediction.predictions, prediction.label_ids, strict=True)
    ]
    return {"accuracy": float((hits[0] & hits[1]).mean())}


def exact_labels(prediction: Any) -> dict[str, float]:
    """The share of labels of several that are predicted."""
    return {"accuracy": float(((prediction.predictions > 0) == prediction.label_ids).mean())}


# --- cases --------------------------------------------------------------------------------------------------------


def _case(name: str, model: Callable[[], nn.Module], rows: Callable[..., Any], **fields: Any) -> Case:
    return Case(name, model, lambda: rows(24, seed=1), lambda: rows(19, seed=2), **fields)


LLAMA = _case("llama", llama_model, helpers.sequence_rows, collator=helpers.pad_texts)
T5 = _case("t5", t5_model, pair_rows, collator=pad_pairs, told=RETURNS_MEAN)
BART = _case("bart", bart_model, pair_rows, collator=pad_pairs, told=RETURNS_MEAN)
VIT = _case("vit", vit_classifier, image_rows, told=RETURNS_MEAN)
TAGS = _case("tags", bert_tagger, tag_rows, told=RETURNS_MEAN)
QUESTIONS = _case("questions", bert_reader, question_rows, told=RETURNS_MEAN, compute_metrics=exact_answers)
REGRESSION = _case("regression", helpers.Regressor, helpers.regression_rows, compute_metrics=squared_error)
MULTI_LABEL = replace(
    BERT, name="multi-label", model=bert_multi_label, collator=several_classes, compute_metrics=exact_labels
)
FROZEN = replace(BERT, name="frozen", model=frozen_bert)
LORA = replace(LLAMA, name="lora", model=lora_llama)
MULTI_OUTPUT = replace(DICT, name="multi-output", model=TwoOutputs)
TIED = _case(
    "tied", TiedLanguageModel, lambda count, seed: tag_rows(count, seed), collator=None, compute_metrics=None
)
KINDS = {
    case.name: case
    for case in (
        BERT, GPT2, LLAMA, T5, BART, VIT, TAGS, QUESTIONS, REGRESSION, DICT, TUPLE,
        MULTI_OUTPUT, MULTI_LABEL, FROZEN, LORA, TIED
    )
}  # fmt: skip
