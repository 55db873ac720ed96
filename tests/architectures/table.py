"""Writes docs/models.md from what happens: ``python -m tests.architectures.table``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.architectures.architecture import ASPECTS, Architecture
from tests.architectures.zoo import EVERY

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
HEAD = """# Models

Each of these {models} models, of {kinds} architectures of transformers {version}, is built tiny, with random weights,
from its configuration class, and goes through `etude.Trainer`: an evaluation, two updates of two micro-batches with
two samples each, another evaluation, a prediction, saving and loading. Then two updates without accumulation are
compared with transformers' own `Trainer`, from the same seed on the same data: loss and gradient norm of both updates,
the loss of an evaluation afterwards, and all that `predict` returns, to a relative 1e-4. The numbers in brackets are
notes at the end.

`tests/architectures` does that (`make test-all`), and fails where it is not what this page says. The page is written by
`python -m tests.architectures.table`.

| family | architecture | class | parameters | trains | evaluates | as with transformers' Trainer |
|---|---|---|---|---|---|---|
"""
TOLD = "transformers has to be told that the model is causal (`loss_type`): it goes by the name of the class"
REASONS = list(dict.fromkeys([TOLD, *(reason for _, member in EVERY for reason in member.differs.values())]))
NOTES = [f"{number}. {why[0].upper()}{why[1:]}." for number, why in enumerate(REASONS, start=1)]


def agreement(architecture: Architecture) -> str:
    """Whether numbers are those of the reference, in words."""
    reasons = [TOLD] if architecture.told else list(dict.fromkeys(architecture.differs.values()))
    notes = "".join(f" [{REASONS.index(reason) + 1}]" for reason in reasons)
    if set(architecture.differs) == set(ASPECTS):
        return f"transformers fails{notes}"
    return (
        f"yes, but for {' and '.join(architecture.differs)}{notes}" if architecture.differs else f"yes{notes}"
    )


def row(family: str, architecture: Architecture, parameters: int) -> str:
    """The line of an architecture that trains and evaluates."""
    cells = (family, architecture.name, f"`{architecture.model}`", f"{parameters:,}", "yes", "yes")
    return f"| {' | '.join(cells)} | {agreement(architecture)} |"


def listed() -> list[tuple[str, str, str, str]]:
    """Family, architecture, class and agreement of each line of the page."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return [(family, name, model.strip("`"), agrees) for family, name, model, *_, agrees in cells]


def page(parameters: list[int]) -> str:
    """The whole page, given the parameters of every model."""
    import transformers

    kinds = {getattr(transformers, member.model).__module__.split(".")[2] for _, member in EVERY}
    head = HEAD.format(models=len(EVERY), kinds=len(kinds), version=transformers.__version__)
    rows = [row(family, member, count) for (family, member), count in zip(EVERY, parameters, strict=True)]
    return head + "\n".join([*rows, "", "Notes:", "", *NOTES]) + "\n"


def write() -> None:
    """Try every architecture and write the page; fails where the zoo says what is not so."""
    from tests.architectures.test_models import check

    parameters = []
    for _, member in EVERY:
        with tempfile.TemporaryDirectory() as folder:
            parameters.append(check(member, Path(folder)))
    PAGE.write_text(page(parameters), encoding="utf-8")


if __name__ == "__main__":
    write()
