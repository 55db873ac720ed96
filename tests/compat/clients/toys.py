"""A tokenizer and models made on the spot, small enough for three steps in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "[CLS]", "[SEP]")
WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "mat",
    "road",
    "sun",
    "moon",
    "is",
    "was",
    "red",
    "blue",
    "green",
)
WORDS += ("big", "small", "and", "then", "not", "very")
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def tokenizer(pair: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words."""
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate((*SPECIAL, *WORDS))}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if pair:
        raw.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 4), ("[SEP]", 5)],
        )
    names: dict[str, str] = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    if pair:
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    made = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    made.chat_template = TEMPLATE
    return made


def sentence(number: int, length: int = 0) -> str:
    """Words that depend only on the number."""
    generator = torch.Generator().manual_seed(number)
    count = length or int(torch.randint(3, 9, (), generator=generator))
    return " ".join(WORDS[i] for i in torch.randint(len(WORDS), (count,), generator=generator).tolist())


def sentences(count: int, start: int = 0) -> list[str]:
    """Different sentences of different lengths."""
    return [sentence(start + i) for i in range(count)]


def preferences(count: int) -> Dataset:
    """Prompts, each with an answer that was chosen and one that was rejected."""
    return Dataset.from_dict(
        {
            "prompt": sentences(count),
            "chosen": [" " + text for text in sentences(count, 100)],
            "rejected": [" " + text for text in sentences(count, 200)],
        }
    )


def _llama(**more: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )


def language_model() -> LlamaForCausalLM:
    """A one-layer language model."""
    torch.manual_seed(0)
    return LlamaForCausalLM(_llama())


def language_model_folder(folder: Path) -> str:
    """The same and its tokenizer, saved."""
    language_model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def reward_model() -> LlamaForSequenceClassification:
    """A one-layer model with one score."""
    torch.manual_seed(0)
    return LlamaForSequenceClassification(_llama(num_labels=1))


def encoder_folder(folder: Path) -> str:
    """A one-layer BERT without dropout and its tokenizer, saved; evaluations of the reference draw from its stream."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer(pair=True).save_pretrained(folder)
    return str(folder)


def options(folder: Path, **more: Any) -> dict[str, Any]:
    """Training arguments for a few silent steps."""
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
        "log_level": "warning",
        **more,
    }
