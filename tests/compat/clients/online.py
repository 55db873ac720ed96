"""TRL's trainers that generate while they learn, unmodified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from tests.compat.clients import toys


def _shortness(completions: list[str], **columns: Any) -> list[float]:
    return [-len(text) / 10 for text in completions]


def _prompts() -> Dataset:
    return Dataset.from_dict({"prompt": toys.sentences(8)})


def _options(folder: Path) -> dict[str, Any]:
    return toys.options(
        folder,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        num_train_epochs=1,
        beta=0.05,
    )


def grpo(folder: Path) -> Any:
    """Group-relative policy optimisation."""
    trainer = GRPOTrainer(
        model=toys.language_model_folder(folder / "start"),
        reward_funcs=_shortness,
        args=GRPOConfig(**_options(folder), gradient_checkpointing=False),
        train_dataset=_prompts(),
        processing_class=toys.tokenizer(),
    )
    trainer.train()
    return trainer


def rloo(folder: Path) -> Any:
    """Reinforcement with a leave-one-out baseline."""
    trainer = RLOOTrainer(
        model=toys.language_model_folder(folder / "start"),
        reward_funcs=_shortness,
        args=RLOOConfig(**_options(folder), gradient_checkpointing=False),
        train_dataset=_prompts(),
        processing_class=toys.tokenizer(),
    )
    trainer.train()
    return trainer
