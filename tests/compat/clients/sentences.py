"""sentence-transformers' trainers, unmodified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

from tests.compat.clients import toys


def _pairs(count: int) -> Dataset:
    return Dataset.from_dict({"anchor": toys.sentences(count), "positive": toys.sentences(count, 300)})


def sentence(folder: Path) -> Any:
    """Embeddings, with an evaluator, checkpoints, and the best of them at the end."""
    model = SentenceTransformer(toys.encoder_folder(folder / "encoder"), device="cpu")
    arguments = toys.options(
        folder, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, save_total_limit=1
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**arguments),
        train_dataset=_pairs(12),
        eval_dataset=_pairs(5),
        loss=losses.MultipleNegativesRankingLoss(model),
        evaluator=EmbeddingSimilarityEvaluator(
            toys.sentences(5), toys.sentences(5, 60), [0.1, 0.9, 0.4, 0.6, 0.3]
        ),
    )
    trainer.train()
    return trainer


def several_datasets(folder: Path) -> Any:
    """Embeddings from two data sets at once, each with its own loss, and rates by module."""
    torch.manual_seed(0)
    model = SentenceTransformer(toys.encoder_folder(folder / "encoder"), device="cpu")
    scored = Dataset.from_dict(
        {"one": toys.sentences(6), "two": toys.sentences(6, 70), "score": [i / 6 for i in range(6)]}
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            **toys.options(folder, weight_decay=0.1), learning_rate_mapping={r"embeddings": 1e-3}
        ),
        train_dataset={"pairs": _pairs(8), "scored": scored},
        loss={"pairs": losses.MultipleNegativesRankingLoss(model), "scored": losses.CoSENTLoss(model)},
    )
    trainer.train()
    return trainer


def cross_encoder(folder: Path) -> Any:
    """A score for a pair of texts."""
    torch.manual_seed(0)
    model = CrossEncoder(toys.encoder_folder(folder / "encoder"), num_labels=1, device="cpu")
    rows = Dataset.from_dict(
        {"one": toys.sentences(10), "two": toys.sentences(10, 40), "label": [float(i % 2) for i in range(10)]}
    )
    trainer = CrossEncoderTrainer(
        model=model, args=CrossEncoderTrainingArguments(**toys.options(folder)), train_dataset=rows
    )
    trainer.train()
    return trainer
