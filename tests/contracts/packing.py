"""Models and runs of the packing suite."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

import etude
from tests import helpers
from tests.contracts.resuming import CountingRows


def of_transformers(name: str, dropout: float = 0.0, **fields: Any) -> nn.Module:
    """A tiny model of transformers with SDPA, by the name of its class."""
    cls = getattr(transformers, name)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = cls.config_class(
        vocab_size=helpers.VOCABULARY, max_position_embeddings=64, **shape, **drops, **fields,
        attn_implementation="sdpa",
    )  # fmt: skip
    return cls(config)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert-masked": lambda: of_transformers("BertForMaskedLM"),
    "bert-tokens": lambda: of_transformers("BertForTokenClassification", num_labels=helpers.NUM_CLASSES),
    "roberta-tokens": lambda: of_transformers(
        "RobertaForTokenClassification", num_labels=helpers.NUM_CLASSES
    ),
    "gpt2": helpers.gpt2_model,
    "llama": lambda: of_transformers("LlamaForCausalLM"),
}
CAUSAL = ("gpt2", "llama")


def built(name: str) -> nn.Module:
    """The model with weights that depend on nothing."""
    torch.manual_seed(5)
    return MODELS[name]()


def rows_for(name: str, count: int, counting: bool = False) -> helpers.Rows:
    """Sequences of 3 to 9 tokens; those of encoders have a label for each token, some of them ignored."""
    rows = [dict(row) for row in helpers.sequence_rows(count).rows]
    numbers = np.random.default_rng(1)
    for row in rows if name not in CAUSAL else []:
        classes = np.array(row["input_ids"]) % (
            helpers.NUM_CLASSES if "tokens" in name else helpers.VOCABULARY
        )
        row["labels"] = np.where(numbers.random(len(classes)) < 0.4, helpers.IGNORED, classes).tolist()
    return (CountingRows if counting else helpers.Rows)(rows)


def trainer_of(model: nn.Module, folder: Path, rows: helpers.Rows, callbacks: Any = (), **fields: Any) -> Any:
    """A trainer that packs."""
    fields = {"packing": True, "packing_length": 12, **fields}
    return etude.Trainer(
        model=model,
        args=helpers.training_arguments(etude, folder, **fields),
        train_dataset=rows,
        callbacks=list(callbacks),
    )


def train_on_ranks(folder: Path) -> None:
    """Two epochs; leaves which samples each process has read in each, and the weights."""
    rows = rows_for("llama", 23, counting=True)
    read: list[list[int]] = []

    class Ledger(etude.TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            rows.read.clear()

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            read.append(list(rows.read))

    world = int(os.environ.get("WORLD_SIZE", "1"))
    trainer = trainer_of(
        built("llama"), folder / "run", rows, [Ledger()], per_device_train_batch_size=4 // world
    )
    trainer.train()
    kept = {"read": read, "weights": helpers.weights_of(trainer.model), "steps": trainer.state.global_step}
    torch.save(kept, folder / f"kept-{os.environ.get('RANK', '0')}.pt")
