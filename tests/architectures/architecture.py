"""What an entry of the zoo is: a model class, a tiny configuration, and samples that it can learn from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tests import helpers

VOCABULARY = 100
IGNORED = helpers.IGNORED

ASPECTS = ("training", "evaluation", "predictions")  # what is compared with the reference
DRAWN = "the model draws random numbers, of which an evaluation before the prediction uses up none here"

# Makes one value of a sample; it may look at what the sample has already.
Column = Callable[[torch.Generator, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Architecture:
    """One row of the table in docs/models.md.

    Attributes:
        name: as people call it.
        model: name of its class in transformers.
        columns: what a sample has, and how each value is made.
        config: what its configuration class gets to make it tiny.
        collator: the collator, or None for the default one of the library.
        arguments: fields of ``TrainingArguments`` that users of this architecture set.
        build: makes the model, where calling its class with a configuration is not enough.
        told: attributes that the model gets under the reference only, for what the reference cannot find out.
        differs: what of ``ASPECTS`` is not as in the reference, and why.
        warns: pattern of a warning that transformers gives about its own model.
        fast: whether the fast tests run it.
    """

    name: str
    model: str
    columns: Mapping[str, Column]
    config: Mapping[str, Any] = field(default_factory=dict)
    collator: Callable[[list[Any]], Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    build: Callable[[], nn.Module] | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    warns: str | None = None
    fast: bool = False

    def make(self) -> nn.Module:
        """The model with random weights."""
        import transformers

        torch.manual_seed(11)
        if self.build is not None:
            return self.build()
        model_class = getattr(transformers, self.model)
        config = model_class.config_class(
            **copy.deepcopy(dict(self.config))
        )  # some are changed by their model
        model: nn.Module = model_class(config)
        return model

    def samples(self, count: int, seed: int) -> helpers.Rows:
        """A data set of random but valid samples."""
        generator = torch.Generator().manual_seed(seed)
        rows = []
        for _ in range(count):
            row: dict[str, Any] = {}
            for name, column in self.columns.items():
                row[name] = column(generator, row)
            rows.append(row)
        return helpers.Rows(rows)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def integers(*shape: int, below: int = VOCABULARY, start: int = 0) -> Column:
    """Whole numbers from ``start`` to ``below`` (not included)."""
    return lambda generator, row: torch.randint(start, below, shape, generator=generator)


def tokens(length: int = 12, below: int = VOCABULARY) -> Column:
    """Tokens that are none of the special ones, which come first in every vocabulary here."""
    return integers(length, below=below, start=5)


def ones(*shape: int) -> Column:
    """A mask that masks nothing."""
    return lambda generator, row: torch.ones(shape, dtype=torch.long)


def numbers(*shape: int) -> Column:
    """Normally distributed numbers: pixels, features, waves."""
    return lambda generator, row: torch.randn(shape, generator=generator)


def one_of(classes: int) -> Column:
    """A class."""
    return integers(below=classes)


def copy_of(name: str) -> Column:
    """The same as another column of the sample."""
    return lambda generator, row: row[name].clone()


def always(value: Any) -> Column:
    """The same in every sample."""
    return lambda generator, row: value


def ragged(shortest: int = 3, longest: int = 12, below: int = VOCABULARY) -> Column:
    """Tokens of a length of their own, for a collator that pads."""

    def make(generator: torch.Generator, row: Mapping[str, Any]) -> torch.Tensor:
        length = int(torch.randint(shortest, longest + 1, (), generator=generator))
        return torch.randint(5, below, (length,), generator=generator)

    return make


def as_long_as(name: str, column: Callable[[int], Column]) -> Column:
    """A column whose length is that of another one."""
    return lambda generator, row: column(len(row[name]))(generator, row)


def pad(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Fill up each column to its longest value: labels with -100, anything else with 0."""
    return {
        name: nn.utils.rnn.pad_sequence(
            [row[name] for row in rows], batch_first=True, padding_value=IGNORED if name == "labels" else 0
        )
        for name in rows[0]
    }


def in_lists(*names: str) -> Callable[[list[Any]], dict[str, Any]]:
    """A collator that keeps the values of some columns in a list, since their shapes differ, and stacks the others."""

    def collate(rows: list[Any]) -> dict[str, Any]:
        return {
            name: [row[name] for row in rows] if name in names else torch.stack([row[name] for row in rows])
            for name in rows[0]
        }

    return collate
