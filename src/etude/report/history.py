"""The evaluations of a run, as its log has them."""

from __future__ import annotations

from typing import Any

_TIMES = ("_runtime", "_per_second")


def evaluations(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each step with an evaluation: epoch, step, the last training loss, losses and metrics.

    Args:
        log: the rows of `state.log_history`.
    """
    rows: dict[int, dict[str, Any]] = {}
    training_loss = None
    for entry in log:
        training_loss = entry.get("loss", training_loss)
        metrics = {n: v for n, v in entry.items() if n.startswith("eval_") and not n.endswith(_TIMES)}
        if metrics:
            start = {"Epoch": entry.get("epoch"), "Step": entry["step"], "Training Loss": training_loss}
            row = rows.setdefault(entry["step"], start)
            shown = {title(name.removeprefix("eval_")): value for name, value in metrics.items()}
            row |= dict(sorted(shown.items(), key=lambda item: not item[0].endswith("Loss")))
    return list(rows.values())


def title(name: str) -> str:
    """A metric's name for people: "F1 Macro" for "f1_macro"."""
    return " ".join(part.capitalize() for part in name.split("_"))
