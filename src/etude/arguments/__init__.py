"""The arguments of a run."""

from __future__ import annotations

from etude.arguments.training import TrainingArguments

__all__ = ["TrainingArguments"]
