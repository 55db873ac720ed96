"""The Trainer's methods that file rows of the log, and print and write the metrics of a script."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

from etude import preparation, saving
from etude.checkpoint.storage import local_folder
from etude.facade.base import TrainerAttributes


class ResultMethods(TrainerAttributes):
    """Rows on every process; what scripts show and keep, on the main process only."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Files a row: in `state.log_history`, in `log.jsonl`, and with every callback that listens.

        Args:
            logs: names and values; "epoch" is added to it.
            start_time: when training began.
        """
        if self.state.epoch is not None:
            logs["epoch"] = self.state.epoch
        if self.args.include_num_input_tokens_seen != "no":
            logs |= preparation.token_counts(self, start_time)
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    @staticmethod
    def metrics_format(metrics: dict[str, Any]) -> dict[str, Any]:
        """Metrics as people read them: memory in MB, times as h:mm:ss, operations in GF, numbers with four decimals."""
        return {name: _readable(name, value) for name, value in metrics.items()}

    def log_metrics(self, split: str, metrics: dict[str, Any]) -> None:
        """Prints a sorted, aligned table.

        Args:
            split: "train", "eval", "test" or "all": the table's title.
        """
        if not self.args.world.is_main:
            return
        shown = {name: str(value) for name, value in sorted(self.metrics_format(metrics).items())}
        names, values = max(map(len, shown), default=0), max(map(len, shown.values()), default=0)
        print(f"***** {split} metrics *****")
        for name, value in shown.items():
            print(f"  {name:<{names}} = {value:>{values}}")

    def save_metrics(self, split: str, metrics: dict[str, Any], combined: bool = True) -> None:
        """Writes `{split}_results.json`, and with `combined` adds the metrics to `all_results.json`."""
        if not self.args.world.is_main:
            return
        folder = Path(local_folder(str(self.args.output_dir)))
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{split}_results.json", metrics)
        if combined:
            path = folder / "all_results.json"
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            _write(path, {**known, **metrics})
        saving.deliver(self)


def _readable(name: str, value: Any) -> Any:
    if "_mem_" in name:
        return f"{value >> 20}MB"
    if "_runtime" in name:
        fraction, seconds = math.modf(value)
        return f"{timedelta(seconds=int(seconds))}.{int(fraction * 100):02d}"
    if name == "total_flos":
        return f"{int(value) >> 30}GF"
    return round(value, 4) if isinstance(value, float) else value


def _write(path: Path, metrics: dict[str, Any]) -> None:
    path.write_text(json.dumps(metrics, indent=4, sort_keys=True), encoding="utf-8")
