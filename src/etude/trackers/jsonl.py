"""The local log: every logged row as one line of `output_dir/log.jsonl`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from etude.core.events import TrainerCallback
from etude.core.state import TrainerControl, TrainerState

LOG_FILE = "log.jsonl"


class LogFileCallback(TrainerCallback):
    """Writes each row as it is logged, on the main process.

    A run that starts anew keeps the log of the one before it as `log.previous.jsonl`. A run that is resumed goes on
    with the rows up to its checkpoint, so that the file reads as if it had never stopped.
    """

    same_on_all_processes = True

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        path = Path(args.output_dir) / LOG_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        if state.global_step == 0 and path.exists():
            path.replace(path.with_name("log.previous.jsonl"))
        unfinished = path.with_name(f".{LOG_FILE}.new")
        unfinished.write_text("".join(_line(row) for row in state.log_history), encoding="utf-8")
        unfinished.replace(path)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not state.log_history:
            return
        line = _line(state.log_history[-1]).encode()
        path = os.path.join(args.output_dir, LOG_FILE)
        # one write of a whole line, closed at once: whatever happens next, the row is there
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line)
        finally:
            os.close(file)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, default=str) + "\n"
