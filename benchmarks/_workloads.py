"""What the contenders of `step_overhead.py` train: the models, the samples, the variants of the loop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

SEED = 11
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
NUM_DISTINCT_SAMPLES = 512
NUM_SPARE_BATCHES = 8

Sample = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row group of the table: a model and the switches of the loop that are on.

    Attributes:
        model: "mlp" or "bert12".
        max_grad_norm: norm to clip the gradient to; 0 for no clipping.
        logging_steps: number of optimizer steps between two log rows; 0 for none.
        accumulation: number of micro-batches of an optimizer step.
        batch_size: number of samples of a micro-batch.
        micro_steps: number of forward and backward passes of a block.
        warmup: number of optimizer steps before the first block.
    """

    model: str
    max_grad_norm: float = 0.0
    logging_steps: int = 0
    accumulation: int = 1
    batch_size: int = 16
    micro_steps: int = 500
    warmup: int = 50


VARIANTS = {
    "plain": Variant("mlp"),
    "clip1": Variant("mlp", max_grad_norm=1.0),
    "log10": Variant("mlp", logging_steps=10),
    "accumulate4": Variant("mlp", accumulation=4),
    "bert12": Variant("bert12", max_grad_norm=1.0, batch_size=4, micro_steps=60, warmup=10),
}


class RepeatedSamples(Dataset[Sample]):
    """A few distinct samples under as many indices as the run needs, so that no epoch ends inside a block."""

    def __init__(self, samples: list[Sample], length: int) -> None:
        self.samples = samples
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index % len(self.samples)]


class TinyMLP(torch.nn.Module):
    """Three linear layers: so little arithmetic that the loop around it is what costs."""

    def __init__(self, num_features: int = 32, num_hidden: int = 64, num_classes: int = 8) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(num_features, num_hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(num_hidden, num_hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(num_hidden, num_classes),
        )

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of shape (batch, classes) and their mean cross-entropy."""
        logits = self.body(features)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def build_model(name: str) -> torch.nn.Module:
    """The model with the same weights in every contender; no dropout, so that the runs can be compared."""
    torch.manual_seed(SEED)
    if name == "mlp":
        return TinyMLP()
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=128,
        hidden_size=32,
        num_hidden_layers=12,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config)


def build_samples(name: str) -> list[Sample]:
    """The distinct samples: features, or token lists of 16 to 32 tokens, with a random label."""
    generator = torch.Generator().manual_seed(SEED)
    if name == "mlp":
        return [
            {
                "features": torch.randn(32, generator=generator),
                "labels": torch.randint(8, (), generator=generator),
            }
            for _ in range(NUM_DISTINCT_SAMPLES)
        ]
    lengths = torch.randint(16, 33, (NUM_DISTINCT_SAMPLES,), generator=generator).tolist()
    return [
        {
            "input_ids": torch.randint(1, 128, (length,), generator=generator),
            "labels": torch.randint(2, (), generator=generator),
        }
        for length in lengths
    ]


def collate(samples: list[Sample]) -> Sample:
    """Stack features, or pad token lists to the longest one: the one collate function of all contenders."""
    labels = torch.stack([sample["labels"] for sample in samples])
    if "features" in samples[0]:
        return {"features": torch.stack([sample["features"] for sample in samples]), "labels": labels}
    tokens = [sample["input_ids"] for sample in samples]
    input_ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long(), "labels": labels}


class Task:
    """A variant made concrete: the model, the data and the number of steps one worker trains."""

    def __init__(self, variant: Variant, num_steps: int) -> None:
        """Build the parts.

        Args:
            variant: what to train.
            num_steps: number of optimizer steps of the whole run, warm-up included.
        """
        self.variant = variant
        self.num_steps = num_steps
        self.model = build_model(variant.model)
        num_samples = (num_steps * variant.accumulation + NUM_SPARE_BATCHES) * variant.batch_size
        self.dataset = RepeatedSamples(build_samples(variant.model), num_samples)
        self._initial = [parameter.detach().clone() for parameter in self.model.parameters()]

    def loader(self) -> DataLoader[Sample]:
        """The data in the random order that the trainers draw too, for loops that bring their own loader."""
        sampler = RandomSampler(self.dataset, generator=torch.Generator().manual_seed(SEED))
        return DataLoader(self.dataset, self.variant.batch_size, sampler=sampler, collate_fn=collate)

    def optimizer(self) -> torch.optim.AdamW:
        """Fused AdamW over two groups: matrices with weight decay, biases and norm weights without."""
        return torch.optim.AdamW(list(self._parameter_groups()), lr=LEARNING_RATE, fused=True)

    def _parameter_groups(self) -> Iterator[dict[str, Any]]:
        parameters = list(self.model.parameters())
        yield {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY}
        yield {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}

    def linear_decay(self, step: int) -> float:
        """Factor of the learning rate: from 1 to 0 over the run."""
        return max(0.0, 1.0 - step / self.num_steps)

    def distance_trained(self) -> float:
        """Euclidean distance of the weights from where they began: equal where the training was equal."""
        with torch.no_grad():
            pairs = zip(self.model.parameters(), self._initial, strict=True)
            return math.sqrt(sum(float((now - before).square().sum()) for now, before in pairs))
