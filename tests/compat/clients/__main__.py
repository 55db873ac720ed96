"""Runs clients in this process and writes what they logged: `python -m tests.compat.clients FOLDER file.client ...`.

Put `-m etude.compat` before it, and the same clients run on etude.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from pathlib import Path
from types import FunctionType
from typing import Any


def reference_functions() -> list[str]:
    """Functions of this process that come out of the file of transformers' Trainer."""
    file = "transformers/trainer.py"
    return [
        o.__qualname__
        for o in gc.get_objects()
        if isinstance(o, FunctionType) and o.__code__.co_filename.replace("\\", "/").endswith(file)
    ]


def main(folder: Path, clients: list[str]) -> None:
    """Runs each client in a folder of its own."""
    outcome: dict[str, Any] = {"logs": {}, "weights": {}}
    for client in clients:
        file, _, function = client.partition(".")
        home = folder / client
        home.mkdir(parents=True)
        trainer = getattr(importlib.import_module(f"tests.compat.clients.{file}"), function)(home)
        outcome["logs"][client] = trainer.state.log_history
        outcome["weights"][client] = sum(float(p.double().abs().sum()) for p in trainer.model.parameters())
    outcome["reference_functions"] = reference_functions()
    (folder / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
