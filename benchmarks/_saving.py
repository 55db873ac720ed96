"""The loops that `checkpoint.py` compares: each trains, and saves and resumes in its own way."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _harness import BlockGate, leave
from torch import nn

WIDTH = 2048
BATCH = 8
MEGABYTE = 1 << 20


class Stack(nn.Module):
    """Square layers, wide enough that a few hold many parameters."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(layers))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """The mean square of the output, so that it has a loss."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return {"loss": x.square().mean()}


class Samples(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """As many samples as are asked for."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.full((WIDTH,), 1.0 + index % 7), "labels": torch.tensor(0)}


class Watch:
    """Follows a training block by block: calm steps, a save, and steps until it is written. Reports each block.

    What a save holds up is the time between two steps beyond what passes there without one. Writing that goes on in a
    thread can slow down the steps that follow, which is counted apart.
    """

    def __init__(self, calm: int, gate: BlockGate) -> None:
        self.calm, self.gate = calm, gate
        self.begins: list[float] = []
        self.ends: list[float] = []
        self.written = 0.0

    def starts(self) -> None:
        """Nothing to do."""

    def step_begins(self) -> None:
        """Call it before a step."""
        self._look()
        if len(self.ends) >= 2 * self.calm and self.written:
            self.report()
            self.begins, self.ends, self.written = [], [], 0.0
        self.begins.append(time.perf_counter())

    def step_ended(self) -> bool:
        """Call it after a step. Returns whether to save now."""
        self.ends.append(time.perf_counter())
        return len(self.ends) == self.calm

    def _look(self) -> None:
        writing = any(thread.name.startswith("checkpoint-") for thread in threading.enumerate())
        if len(self.ends) >= self.calm and not writing and not self.written:
            self.written = time.perf_counter()

    def report(self) -> None:
        """Tells what the save of this block has cost, and waits to be asked for the next one."""
        gaps = [begin - end for begin, end in zip(self.begins[1:], self.ends[:-1], strict=True)]
        steps = [end - begin for begin, end in zip(self.begins, self.ends, strict=True)]
        step, gap = statistics.median(steps[1 : self.calm]), statistics.median(gaps[: self.calm - 1])
        during = [
            length
            for length, begin in zip(steps[self.calm :], self.begins[self.calm :], strict=True)
            if begin < self.written
        ]
        os.sync()  # the disk is quiet when the next block begins
        self.gate.tell(
            step_s=step,
            blocked_s=gaps[self.calm - 1] - gap,
            slower_s=sum(during) - step * len(during),
            written_s=self.written - self.ends[self.calm - 1],
        )


class SaveGate(BlockGate):
    """A gate through which a `Watch` tells what it has seen."""

    def __init__(self) -> None:
        super().__init__(0, lambda: 0.0)

    def tell(self, **values: float) -> None:
        """Report, wait to be asked for the next block, and start its clock."""
        cpu, wall = time.process_time() - self._start[0], time.perf_counter() - self._start[1]
        self._reply(cpu_s=cpu, wall_s=wall, **values)
        self.wait()

    def wait(self) -> None:
        """Wait to be asked for the next block."""
        if int(self._requests() or 0) == 0:
            leave()
        self._start = (time.process_time(), time.perf_counter())

    @staticmethod
    def _requests() -> str:
        return sys.stdin.readline()


class FirstStep:
    """Reports when the first step is done, and what memory the process has taken until then; and ends it."""

    def starts(self) -> None:
        """Call it when everything is built and the training is about to begin."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        self.before = memory()
        self.began = time.perf_counter()

    def step_begins(self) -> None:
        """Nothing to do."""

    def step_ended(self) -> bool:
        """Report."""
        seconds = time.perf_counter() - self.began
        peak, own = memory("VmHWM"), memory("RssAnon")
        print(
            json.dumps({"first_step_s": seconds, "memory_mb": peak - self.before, "own_memory_mb": own}),
            flush=True,
        )
        leave()


def memory(what: str = "VmRSS") -> float:
    """Resident memory of this process in MiB, as /proc tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def train_bare(model: Stack, watch: Any, folder: Path, resume: bool) -> None:
    """What a careful person writes by hand, who does not ask for checkpoints that survive a crash."""
    from safetensors.torch import load_model, save_model

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    samples = iter(torch.utils.data.DataLoader(Samples(), BATCH))
    target = folder / "checkpoint"
    target.mkdir(parents=True, exist_ok=True)
    watch.starts()
    if resume:
        load_model(model, str(target / "model.safetensors"))
        optimizer.load_state_dict(torch.load(target / "optimizer.pt", weights_only=True))
    while True:
        watch.step_begins()
        model(**next(samples))["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if watch.step_ended():
            save_model(model, str(target / "model.safetensors"))
            torch.save(optimizer.state_dict(), target / "optimizer.pt")


def train_with(library: str) -> Callable[[Stack, Any, Path, bool], None]:
    """Train with the `Trainer` of `library`: the same script for transformers and for etude."""

    def train(model: Stack, watch: Any, folder: Path, resume: bool) -> None:
        module = importlib.import_module(library)

        class Watching(module.TrainerCallback):  # type: ignore[misc, name-defined]
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                watch.step_begins()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
                control.should_save = watch.step_ended()
                return control

        arguments = module.TrainingArguments(
            output_dir=str(folder),
            max_steps=100_000,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-5,
            optim="adamw_torch_fused",
            logging_strategy="no",
            save_strategy="no",  # the callback says when
            save_total_limit=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=True,
        )
        trainer = module.Trainer(model=model, args=arguments, train_dataset=Samples(), callbacks=[Watching()])
        watch.starts()
        trainer.train(resume_from_checkpoint=resume or None)

    return train


CONTENDERS = {"bare": train_bare, "transformers": train_with("transformers"), "etude": train_with("etude")}


def work(contender: str, mode: str, options: argparse.Namespace) -> None:
    """Be the worker process of one contender."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = Stack(options.layers)
    train = CONTENDERS[contender]
    torch.optim.AdamW(model.parameters())  # what it imports is in no measurement
    if mode == "save":
        gate = SaveGate()
        gate._reply(ready=1.0)
        gate.wait()
        train(model, Watch(options.calm, gate), Path(options.folder), False)
    else:
        folder = Path(options.folder) if mode == "resume" else Path(options.folder).with_name("nothing")
        train(model, FirstStep(), folder, mode == "resume")
