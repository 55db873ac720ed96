"""The arguments of a run whose evaluations let the model generate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from etude.arguments.fields import arg
from etude.arguments.training import TrainingArguments
from etude.errors import ConfigurationError, UnsupportedOptionError


class GenerationOptions(Protocol):
    """What a `transformers.GenerationConfig` can do; the package need not be installed."""

    def to_dict(self) -> dict[str, Any]:
        """Its values by name."""


@dataclass(repr=False)
class Seq2SeqTrainingArguments(TrainingArguments):
    """`TrainingArguments`, and how `Seq2SeqTrainer` lets the model generate.

    Raises:
        UnsupportedOptionError: `sortish_sampler` is on.
        ConfigurationError: a value or a combination that cannot work (a ValueError).
    """

    sortish_sampler: bool = arg(
        False, "Refused: without effect in transformers, see train_sampling_strategy."
    )
    predict_with_generate: bool = arg(False, "Metrics are computed on what the model generates.")
    generation_max_length: int | None = arg(
        None, "Longest generated sequence, in tokens; the model's own if unset."
    )
    generation_num_beams: int | None = arg(
        None, "Beams that the search for a sequence keeps; the model's own if unset."
    )
    generation_config: str | Path | GenerationOptions | None = arg(
        None, "A GenerationConfig, or the path or model name to load one from."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sortish_sampler:
            raise UnsupportedOptionError(
                "`sortish_sampler` does nothing in transformers; for batches of samples of similar length set "
                "`train_sampling_strategy='group_by_length'`."
            )
        for name in ("generation_max_length", "generation_num_beams"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigurationError(f"`{name}` must be a whole number of at least 1, it is {value!r}.")
