"""Small tokenizers, built on the spot."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "saw", "it"]
PIECES = ["un", "##want", "##ed", "run", "##ning", "low", "##er"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "the cat sat on a mat",
    "unwanted running dog saw it",
    "a lower mat",
    "it sat on the unwanted cat running lower",
]


@cache
def wordpiece(padding_side: str = "right") -> Any:
    """BERT's kind: words in pieces, with a mask token and special tokens around each text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS, *PIECES])}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=around
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        padding_side=padding_side,
    )


@cache
def bytes_only() -> Any:
    """GPT-2's kind: byte pairs, an end of text, no padding and no mask."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


def encoded(tokenizer: Any, texts: Iterable[str] = TEXTS, **options: Any) -> list[Any]:
    """Each text as the tokenizer gives it: a BatchEncoding."""
    return [tokenizer(text, **options) for text in texts]
