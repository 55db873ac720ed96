"""Tiny models, data sets and comparisons that the behavioural suites share."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

VOCABULARY = 48
NUM_FEATURES = 6
NUM_CLASSES = 3
IGNORED = -100
TIMING_SUFFIXES = ("_runtime", "_per_second", "_model_preparation_time")


@contextmanager
def library(name: str) -> Iterator[ModuleType]:
    """The trainer library ``name``; the warnings of the reference are its own business, ours are errors."""
    with warnings.catch_warnings():
        if name == "transformers":
            warnings.simplefilter("ignore")
        yield importlib.import_module(name)


# --- data ---------------------------------------------------------------------------------------------------------


class Rows(Dataset):
    """A map-style data set over a list of dictionaries."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.rows[index])


def feature_rows(count: int, seed: int = 0) -> Rows:
    """Fixed-size features with a class that depends on them."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, NUM_FEATURES, generator=generator)
    labels = features[:, :NUM_CLASSES].argmax(dim=1)
    return Rows([{"features": x, "labels": int(y)} for x, y in zip(features, labels, strict=True)])


def regression_rows(count: int, seed: int = 0) -> Rows:
    """Fixed-size features with a float target."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, NUM_FEATURES, generator=generator)
    noise = torch.randn(count, generator=generator)
    targets = features.sum(dim=1) + 0.1 * noise
    return Rows([{"features": x, "labels": float(y)} for x, y in zip(features, targets, strict=True)])


def text_rows(count: int, seed: int = 0) -> Rows:
    """Token sequences of 3 to 9 tokens, each with a class."""
    numbers = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        tokens = numbers.integers(3, VOCABULARY, size=int(numbers.integers(3, 10))).tolist()
        rows.append({"input_ids": tokens, "labels": int(sum(tokens) % NUM_CLASSES)})
    return Rows(rows)


def sequence_rows(count: int, seed: int = 0) -> Rows:
    """Token sequences of 3 to 9 tokens for a language model."""
    return Rows([{"input_ids": row["input_ids"]} for row in text_rows(count, seed).rows])


def tagged_rows(count: int, seed: int = 0, length: int = 8, smallest: int = 1) -> Rows:
    """Token sequences with a tag per token, of which ``smallest`` to ``length`` count (the others are -100)."""
    numbers = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        tokens = numbers.integers(0, VOCABULARY, size=length)
        tags = tokens % NUM_CLASSES
        ignored = numbers.permutation(length)[: length - int(numbers.integers(smallest, length + 1))]
        tags[ignored] = IGNORED
        rows.append({"input_ids": torch.tensor(tokens), "labels": torch.tensor(tags)})
    return Rows(rows)


def pad_texts(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Collate token sequences of several lengths; rows without a label get shifted language-model labels."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for position, row in enumerate(rows):
        ids[position, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[position, : len(row["input_ids"])] = 1
    labels = (
        torch.tensor([row["labels"] for row in rows])
        if "labels" in rows[0]
        else ids.masked_fill(mask == 0, IGNORED)
    )
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


# --- models -------------------------------------------------------------------------------------------------------


class DictClassifier(nn.Module):
    """A plain module that returns a dictionary and its own mean loss."""

    def __init__(self, dropout: float = 0.0, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(NUM_FEATURES, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Class scores and, with labels, the mean cross-entropy."""
        logits = self.head(self.body(features))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class TupleClassifier(DictClassifier):
    """The same, returning a tuple."""

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """``(loss, scores)`` with labels, ``(scores,)`` without."""
        return tuple(super().forward(features, labels).values())


class Regressor(nn.Module):
    """A plain module with float labels and a mean squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(NUM_FEATURES, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Predicted values and, with labels, their mean squared error."""
        values = self.layers(features).squeeze(-1)
        if labels is None:
            return {"logits": values}
        return {"loss": nn.functional.mse_loss(values, labels.to(values.dtype)), "logits": values}


class TokenTagger(nn.Module):
    """A plain module whose loss is the mean over the tokens of its own micro-batch whose label counts."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 12)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(12, NUM_CLASSES)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """A score per token and, with labels, the mean cross-entropy of the tokens that count."""
        logits = self.head(self.dropout(torch.tanh(self.embedding(input_ids))))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def bert_classifier(dropout: float = 0.0) -> nn.Module:
    """A two-layer BERT classifier with random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        num_labels=NUM_CLASSES,
    )
    return BertForSequenceClassification(config)


def gpt2_model(dropout: float = 0.0) -> nn.Module:
    """A two-layer GPT-2 language model with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config)


# --- arguments and comparisons ------------------------------------------------------------------------------------


def training_arguments(lib: ModuleType, output_dir: Path | str, **fields: Any) -> Any:
    """``TrainingArguments`` of ``lib`` for a short silent run on the CPU."""
    defaults: dict[str, Any] = {
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 8,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "seed": 7,
    }
    return lib.TrainingArguments(output_dir=str(output_dir), **{**defaults, **fields})


def accuracy(prediction: Any) -> dict[str, float]:
    """The share of labels that count and are predicted."""
    predictions, labels = prediction
    scores = predictions[0] if isinstance(predictions, tuple) else predictions
    counted = labels != IGNORED
    return {"accuracy": float((scores.argmax(-1) == labels)[counted].mean())}


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the state dictionary."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def without_timing(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Log rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if not key.endswith(TIMING_SUFFIXES)} for row in rows]


def relative_difference(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> float:
    """The norm of the difference of two sets of tensors, divided by the norm of the second set."""
    assert ours.keys() == theirs.keys()
    difference = torch.stack([(ours[name].double() - theirs[name].double()).norm() for name in ours]).norm()
    size = torch.stack([value.double().norm() for value in theirs.values()]).norm()
    return float(difference / size)


def assert_identical(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    """Every tensor is equal bit for bit."""
    assert ours.keys() == theirs.keys()
    different = [name for name in theirs if not torch.equal(ours[name], theirs[name])]
    assert not different, f"not bit-identical: {different}"


def assert_same_arrays(ours: Any, theirs: Any, relative: float = 1e-6) -> None:
    """Nested predictions have one structure, one type and the same numbers."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for mine, reference in zip(ours, theirs, strict=True):
            assert_same_arrays(mine, reference, relative)
    elif isinstance(theirs, Mapping):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same_arrays(ours[key], theirs[key], relative)
    elif theirs is not None:
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=relative, atol=relative / 10)
