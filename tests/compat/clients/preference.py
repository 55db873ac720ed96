"""TRL's trainers that learn from texts and preferences, unmodified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from tests.compat.clients import toys


def sft(folder: Path) -> Any:
    """Supervised fine-tuning, with evaluations and checkpoints."""
    trainer = SFTTrainer(
        model=toys.language_model(),
        args=SFTConfig(
            **toys.options(folder, eval_strategy="epoch", save_strategy="epoch", max_length=32),
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict({"text": toys.sentences(10)}),
        eval_dataset=Dataset.from_dict({"text": toys.sentences(5, 50)}),
        processing_class=toys.tokenizer(),
    )
    trainer.train()
    return trainer


def sft_recomputed(folder: Path) -> Any:
    """The same with TRL's default of recomputing activations."""
    trainer = SFTTrainer(
        model=toys.language_model(),
        args=SFTConfig(**toys.options(folder, max_length=32)),
        train_dataset=Dataset.from_dict({"text": toys.sentences(10)}),
        processing_class=toys.tokenizer(),
    )
    trainer.train()
    return trainer


def sft_lora(folder: Path) -> Any:
    """The same on a low-rank adapter of peft's."""
    from peft import LoraConfig

    trainer = SFTTrainer(
        model=toys.language_model(),
        args=SFTConfig(**toys.options(folder, max_length=32), gradient_checkpointing=False),
        train_dataset=Dataset.from_dict({"text": toys.sentences(10)}),
        processing_class=toys.tokenizer(),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=2, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]
        ),
    )
    trainer.train()
    return trainer


def reward(folder: Path) -> Any:
    """A model of preferences."""
    trainer = RewardTrainer(
        model=toys.reward_model(),
        args=RewardConfig(**toys.options(folder, eval_strategy="epoch"), gradient_checkpointing=False),
        train_dataset=toys.preferences(10),
        eval_dataset=toys.preferences(4),
        processing_class=toys.tokenizer(),
    )
    trainer.train()
    return trainer


def dpo(folder: Path) -> Any:
    """Preferences without a model of them, with the reference's log-probabilities computed beforehand."""
    trainer = DPOTrainer(
        model=toys.language_model(),
        args=DPOConfig(
            **toys.options(folder, eval_strategy="epoch"),
            gradient_checkpointing=False,
            precompute_ref_log_probs=True,
        ),
        train_dataset=toys.preferences(10),
        eval_dataset=toys.preferences(4),
        processing_class=toys.tokenizer(),
    )
    trainer.train()
    return trainer


def dpo_reference(folder: Path) -> Any:
    """The same beside a reference model."""
    trainer = DPOTrainer(
        model=toys.language_model(),
        ref_model=toys.language_model(),
        args=DPOConfig(**toys.options(folder), gradient_checkpointing=False),
        train_dataset=toys.preferences(10),
        processing_class=toys.tokenizer(),
    )
    trainer.train()
    return trainer


def kto(folder: Path) -> Any:
    """Answers that are good or bad."""
    rows = {
        "prompt": toys.sentences(10),
        "completion": [" " + text for text in toys.sentences(10, 100)],
        "label": [i % 2 == 0 for i in range(10)],
    }
    trainer = KTOTrainer(
        model=toys.language_model(),
        ref_model=toys.language_model(),
        args=KTOConfig(**toys.options(folder), gradient_checkpointing=False),
        train_dataset=Dataset.from_dict(rows),
        processing_class=toys.tokenizer(),
    )
    trainer.train()
    return trainer
