"""The model card: `README.md` with what a Trainer knows of its model. Reads nothing from the network."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from etude.hub import facts
from etude.hub.metadata import metadata
from etude.optional import require

# A card with one of these in a comment was generated, and may be generated anew: ours, and the reference's.
_GENERATED = re.compile(r"<!--[^>]*generated automatically[^>]*-->")
_NOTE = (
    "<!-- This card is generated automatically, and anew each time. Delete this comment once you have edited the\n"
    "text: it then stays as it is, and only the metadata above is kept up to date. -->"
)
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_PACKAGES = {
    "etude": "étude",
    "torch": "PyTorch",
    "transformers": "Transformers",
    "peft": "PEFT",
    "datasets": "Datasets",
    "tokenizers": "Tokenizers",
}


@dataclass
class Given:
    """What the caller of `create_model_card` says."""

    language: str | None
    license: str | None
    tags: list[str]
    model_name: str | None
    finetuned_from: str | None
    tasks: list[str]
    dataset_tags: list[str]
    dataset: list[str]
    dataset_args: list[str]


def write(trainer: Any, given: Given, path: Path) -> None:
    """Writes the card of a trainer's model, or updates the metadata of one that a person has written."""
    known = read(path)
    card = facts.gather(trainer, given)
    # as the reference: tags of an earlier card are kept where new ones are given
    if given.tags:
        card.tags = list(dict.fromkeys([*card.tags, *as_list(known.metadata.get("tags"))]))
    front = metadata(card)
    if known.is_written_by_hand:
        front = {**known.metadata, **front}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(front, known.body if known.is_written_by_hand else body(card)), encoding="utf-8")
    if hasattr(trainer.model, "create_or_update_model_card"):  # PEFT adds what it knows
        trainer.model.create_or_update_model_card(str(path.parent))


@dataclass
class Card:
    """A card as it lies on the disk."""

    metadata: dict[str, Any]
    body: str

    @property
    def is_written_by_hand(self) -> bool:
        """Whether replacing the text would lose somebody's work."""
        is_template = self.metadata.get("library_name") == "peft" and "[More Information Needed]" in self.body
        return bool(self.body.strip()) and not _GENERATED.search(self.body) and not is_template


def read(path: Path) -> Card:
    """The card at `path`; an empty one if there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    front = _FRONT_MATTER.match(text)
    if front is None:
        return Card({}, text)
    found = require("yaml", "create_model_card", install="pyyaml").safe_load(front.group(1))
    return Card(found if isinstance(found, dict) else {}, text[front.end() :])


def render(front: dict[str, Any], body: str) -> str:
    """A card with its metadata in front."""
    yaml = require("yaml", "create_model_card", install="pyyaml")
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n{body}"


def body(card: facts.Facts) -> str:
    """The text of a generated card."""
    parts = [_NOTE, f"# {card.model_name}", _origin(card)]
    if card.results:
        parts += [
            "## Results",
            f"On the evaluation set, {_moment(card)}:",
            table(["Metric", "Value"], list(card.results.items())),
        ]
    parts += ["## Uses", "*What is the model for, and where does it fail?*", "## Data", "*What is in it?*"]
    parts += ["## Training", table(["Hyperparameter", "Value"], list(card.hyperparameters.items()))]
    if card.progress:
        columns = list(dict.fromkeys(name for row in card.progress for name in row))
        parts += [
            "### Progress",
            table(columns, [[row.get(name) for name in columns] for row in card.progress]),
        ]
    parts += ["### Versions", table(["Package", "Version"], versions())]
    return "\n" + "\n\n".join(part for part in parts if part) + "\n"


def _origin(card: facts.Facts) -> str:
    if card.finetuned_from is None:
        start = "Trained"
    else:
        start = f"[{card.finetuned_from}](https://huggingface.co/{card.finetuned_from}), fine-tuned"
    return f"{start} on {_joined(card.dataset)}." if card.dataset else f"{start}."


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _moment(card: facts.Facts) -> str:
    return f"after {card.steps:,} updates" if card.steps else "before any training"


def table(columns: list[str], rows: list[Any]) -> str:
    """A Markdown table, aligned as text too; numbers to the right.

    Args:
        columns: the titles.
        rows: one sequence of values a row; floats are shown with four significant digits, None as nothing.
    """
    cells = [columns, *[[shown(value) for value in row] for row in rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(columns))]
    right = [all(isinstance(row[i], (int, float, type(None))) for row in rows) for i in range(len(columns))]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(
        "| "
        + " | ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
        + " |"
        for line in lines
    )


def shown(value: Any) -> str:
    """A value in a cell of a table."""
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def versions() -> list[tuple[str, str]]:
    """The packages that have a part in this training."""
    return [(name, version(package)) for package, name in _PACKAGES.items() if package in sys.modules]


def as_list(value: Any) -> list[Any]:
    """One value, several or none, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
