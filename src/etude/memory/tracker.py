"""How much memory the stages of a Trainer take: its construction, a training, an evaluation, a prediction."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from etude.optional import require

SAMPLING_INTERVAL = 0.01  # seconds: what is allocated and freed within it may be missed
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Usage:
    """Bytes at the beginning and the end of a stage, and the most in between."""

    begin: int
    end: int
    peak: int

    @property
    def alloc(self) -> int:
        """What the stage has left allocated; negative where it freed more."""
        return self.end - self.begin

    @property
    def peaked(self) -> int:
        """What it needed above that while it ran; never negative."""
        return max(0, self.peak - self.end)


class HostMemory:
    """The resident memory of this process, whose peak a thread samples."""

    def __init__(self) -> None:
        self._read = resident_memory()
        self._begin = self._peak = 0
        self._ended = threading.Event()

    def begin(self) -> None:
        self._begin = self._peak = self._read()
        self._ended = threading.Event()
        # The thread holds a weak reference: a Trainer whose construction fails must not leave it running.
        threading.Thread(target=_sample, args=(weakref.ref(self), self._ended), daemon=True).start()

    def sample(self) -> None:
        self._peak = max(self._peak, self._read())

    def end(self) -> Usage:
        self.sample()
        self._ended.set()
        return Usage(self._begin, self._read(), self._peak)


class DeviceMemory:
    """What PyTorch has allocated on an accelerator; its allocator keeps the exact peak."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begin = 0

    def begin(self) -> None:
        torch.accelerator.empty_cache()
        torch.accelerator.reset_peak_memory_stats(self._device)
        self._begin = torch.accelerator.memory_allocated(self._device)

    def end(self) -> Usage:
        torch.accelerator.empty_cache()
        now = torch.accelerator.memory_allocated(self._device)
        return Usage(self._begin, now, torch.accelerator.max_memory_allocated(self._device))


class TrainerMemoryTracker:
    """Measures one stage at a time; a stage inside another (an evaluation inside a training) belongs to the outer one.

    Figures of the construction go into the metrics of the first stage after it. A skipped tracker does nothing.

    Args:
        skip_memory_metrics: measure nothing.
        device: the accelerator to measure besides the host; the current one if not given.

    Raises:
        MissingPackageError: the system has no /proc, and psutil is not installed.
    """

    def __init__(self, skip_memory_metrics: bool = False, device: torch.device | None = None) -> None:
        self.skip_memory_metrics = skip_memory_metrics
        self._running: str | None = None
        self._usage: dict[str, dict[str, Usage]] = {}  # by stage, then by kind of memory
        self._meters: dict[str, Any] = {}
        if skip_memory_metrics:
            return
        self._meters["cpu"] = HostMemory()
        if device is None:
            device = torch.accelerator.current_accelerator(check_available=True)
        if device is not None and device.type not in ("cpu", "mps"):  # the allocator of mps keeps no peak
            self._meters["gpu"] = DeviceMemory(device)

    def start(self, stage: str = "eval") -> bool:
        """Begins a stage: "init", "train", "eval" or "test". Returns whether it is measured."""
        if self.skip_memory_metrics or self._running is not None:
            return False
        self._running = stage
        gc.collect()
        for meter in self._meters.values():
            meter.begin()
        return True

    def stop(self, stage: str = "eval") -> None:
        """Ends a stage, unless it is not the one that is measured."""
        if self._running == stage:
            gc.collect()
            self._usage[stage] = {kind: meter.end() for kind, meter in self._meters.items()}
            self._running = None

    def stop_and_update_metrics(self, metrics: dict[str, Any] | None = None, stage: str = "eval") -> None:
        """Ends a stage and adds its figures to `metrics`: bytes, as {stage}_mem_{cpu,gpu}_{alloc,peaked}_delta."""
        self.stop(stage)
        if self._running is None and metrics is not None:
            for ended in ("init", stage):
                metrics.update(_figures(ended, self._usage.pop(ended, {})))

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """A stage that ends with the block at the latest, also where an error ends it."""
        began = self.start(stage)
        try:
            yield
        finally:
            if began:
                self.stop(stage)


def measured_from_here(skip: bool, device: torch.device) -> TrainerMemoryTracker:
    """A tracker that measures the construction of its Trainer from now on."""
    tracker = TrainerMemoryTracker(skip, device)
    tracker.start("init")
    return tracker


def _figures(stage: str, usage: dict[str, Usage]) -> dict[str, int]:
    result: dict[str, int] = {}
    for kind, used in usage.items():
        result[f"{stage}_mem_{kind}_alloc_delta"] = used.alloc
        result[f"{stage}_mem_{kind}_peaked_delta"] = used.peaked
        if stage == "init":
            result[f"before_init_mem_{kind}"] = used.begin
    return result


def _sample(memory: weakref.ref[HostMemory], ended: threading.Event) -> None:
    while not ended.wait(SAMPLING_INTERVAL):
        alive = memory()
        if alive is None:
            return
        alive.sample()
        del alive


def resident_memory() -> Callable[[], int]:
    """A function that reads this process's resident memory, in bytes."""
    if _STATM.exists():
        page = os.sysconf("SC_PAGE_SIZE")
        return lambda: int(_STATM.read_bytes().split()[1]) * page
    process = require("psutil", "skip_memory_metrics=False").Process()
    return lambda: int(process.memory_info().rss)
