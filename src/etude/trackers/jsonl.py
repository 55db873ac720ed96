"""The local log: every logged row as one line of `output_dir/log.jsonl`."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from etude.checkpoint.storage import local_folder
from etude.core.events import TrainerCallback
from etude.core.state import TrainerControl, TrainerState

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"


class LogFileCallback(TrainerCallback):
    """Writes each row as it is logged, on the main process.

    A run that starts anew keeps the log of the one before it as `log.previous.jsonl`. A run that is resumed goes on
    with the rows up to its checkpoint, so that the file reads as if it had never stopped.
    """

    same_on_all_processes = True

    def __init__(self) -> None:
        self._waiting = b""  # rows that the disk has not taken yet
        self._told = False

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        path = Path(local_folder(args.output_dir)) / LOG_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._waiting, self._told = b"", False
        if state.global_step == 0 and path.exists():
            path.replace(path.with_name("log.previous.jsonl"))
        unfinished = path.with_name(f".{LOG_FILE}.new")
        unfinished.write_text("".join(_line(row) for row in state.log_history), encoding="utf-8")
        unfinished.replace(path)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not state.log_history:
            return
        self._waiting += _line(state.log_history[-1]).encode()
        path = os.path.join(local_folder(args.output_dir), LOG_FILE)
        try:
            self._append(path)
        except OSError as error:  # a row is in checkpoints too: nothing to stop a training for
            if not self._told:
                logger.warning("%s cannot be written: %s. Its rows are kept for later.", path, error)
            self._told = True

    def _append(self, path: str) -> None:
        # one write of whole lines, closed at once: whatever happens next, the rows are there
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(file, self._waiting) :]
        finally:
            os.close(file)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, default=str) + "\n"
