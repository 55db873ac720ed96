"""What is in checkpoints, and how two of them differ, as people read it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.checkpoint import files
from etude.checkpoint.changes import arguments_of, changes, transition
from etude.checkpoint.manifest import Manifest
from etude.checkpoint.verify import verify
from etude.errors import CheckpointError

COLUMNS = {
    "step": ">",
    "size": ">",
    "written": "<",
    "processes": ">",
    "state": "<",
}  # and to which side they go


def checkpoints_in(path: Path) -> list[Path]:
    """The checkpoint that `path` is, or those in it, by step.

    Raises:
        CheckpointError: there is none.
    """
    if any((path / name).is_file() for name in (files.TRAINER_STATE, files.MANIFEST)):
        return [path]
    inside = path.iterdir() if path.is_dir() else ()
    found = {folder: files.step_of(folder.name) for folder in inside if folder.is_dir()}
    numbered = sorted((step, folder) for folder, step in found.items() if step is not None)
    if not numbered:
        raise CheckpointError(f"There is no checkpoint in {path}.")
    return [folder for _, folder in numbered]


@dataclass(frozen=True)
class Summary:
    """A checkpoint in a line.

    Attributes:
        step: number of updates done; None where it cannot be told.
        size: bytes of all files.
        written: seconds since the epoch.
        processes: how many wrote it; None where it cannot be told.
        problem: what is wrong with it; None: nothing.
    """

    folder: Path
    step: int | None
    size: int
    written: float
    processes: int | None
    problem: str | None

    def cells(self, whole: str) -> tuple[str, ...]:
        """The texts of the columns; `whole` is what a good one is called."""
        return (
            "?" if self.step is None else str(self.step),
            size_text(self.size),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(self.written)),
            "?" if self.processes is None else str(self.processes),
            whole if self.problem is None else f"broken: {self.problem}",
        )


def summary(folder: Path, contents: bool) -> Summary:
    """Looks at a checkpoint; with `contents` every byte of it is read."""
    problem = None
    try:
        verify(folder, contents)
    except CheckpointError as error:
        problem = str(error).removeprefix(f"{folder} is broken: ").removesuffix(".")
    present = [path for path in folder.rglob("*") if path.is_file()]
    stats = [path.stat() for path in present]
    return Summary(
        folder,
        _state_of(folder).get("global_step", files.step_of(folder.name)),
        sum(stat.st_size for stat in stats),
        max((stat.st_mtime for stat in stats), default=folder.stat().st_mtime),
        _processes(folder, [path.name for path in present]),
        problem,
    )


def _processes(folder: Path, names: list[str]) -> int | None:
    try:
        manifest = Manifest.load(folder)
    except CheckpointError:
        manifest = None
    if manifest is not None:
        return manifest.world_size
    return sum(name.startswith("rng_state") for name in names) or None


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows under their heading, numbers to the right and texts to the left."""
    lines = [tuple(COLUMNS), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = COLUMNS.values()
    aligned = [
        "  ".join(f"{c:{s}{w}}" for c, s, w in zip(line, sides, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(f"  {line}" for line in aligned)


# Two checkpoints


@dataclass(frozen=True)
class Difference:
    """How two checkpoints differ: a line for each thing, by topic."""

    arguments: list[str]
    state: list[str]
    files: list[str]
    weights: list[str]

    def __bool__(self) -> bool:
        return any((self.arguments, self.state, self.files, self.weights))

    def __str__(self) -> str:
        topics = {
            "arguments": self.arguments,
            "state": self.state,
            "files": self.files,
            "weights": self.weights,
        }
        blocks = [
            "\n".join([name, *(f"  {line}" for line in lines or ["the same"])])
            for name, lines in topics.items()
        ]
        return "\n".join(blocks)


def difference(one: Path, other: Path, most: int = 10) -> Difference:
    """How two checkpoints differ.

    Args:
        most: how many tensors are named, those that differ most.

    Raises:
        CheckpointError: a file cannot be read.
    """
    return Difference(
        _differing_arguments(one, other),
        _aligned(_differing(_state_of(one), _state_of(other))),
        _differing_files(one, other),
        _differing_weights(one, other, most),
    )


def _differing_arguments(one: Path, other: Path) -> list[str]:
    before, now = arguments_of(one), arguments_of(other)
    if before is None or now is None:
        return [] if before is now else ["only one of them says"]
    return _aligned((change.name, transition(change.before, change.now)) for change in changes(before, now))


def _state_of(folder: Path) -> dict[str, Any]:
    """What `trainer_state.json` says, the log as the number of its rows."""
    try:
        state = json.loads((folder / files.TRAINER_STATE).read_text(encoding="utf-8"))
        return {**state, "log_history": f"{len(state['log_history'])} rows"}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, str]]:
    names = [*one, *(name for name in other if name not in one)]
    return [(n, transition(one.get(n), other.get(n))) for n in names if one.get(n) != other.get(n)]


def _differing_files(one: Path, other: Path) -> list[str]:
    names = [
        {path.relative_to(f).as_posix() for path in f.rglob("*") if path.is_file()} for f in (one, other)
    ]
    lines = [(name, f"only in {one}") for name in names[0] - names[1]]
    lines += [(name, f"only in {other}") for name in names[1] - names[0]]
    lines += [(n, "differs") for n in names[0] & names[1] if not _same_content(one / n, other / n)]
    return _aligned(sorted(lines))


def _same_content(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(1 << 20):
            if block != second.read(1 << 20):
                return False
    return True


def _differing_weights(one: Path, other: Path, most: int) -> list[str]:
    from etude.checkpoint.weights import stored_tensors  # PyTorch, which nothing else here needs

    before, now = stored_tensors(one), stored_tensors(other)
    lines = [(name, f"only in {one}") for name in before if name not in now]
    lines += [(name, f"only in {other}") for name in now if name not in before]
    sizes = []
    for name in before.keys() & now.keys():
        text, size = _distance(before[name], now[name])
        if size > 0:
            sizes.append((-size, name, text))
    sizes.sort()
    lines += [(name, text) for _, name, text in sizes[:most]]
    rest = len(sizes) - most
    return _aligned(lines) + ([f"and {rest} more"] if rest > 0 else [])


def _distance(one: Callable[[], Any], other: Callable[[], Any]) -> tuple[str, float]:
    """How far two tensors are from each other: a text, and a number to sort by."""
    first, second = one(), other()
    if first.shape != second.shape:
        return f"{tuple(first.shape)} -> {tuple(second.shape)}", float("inf")
    if first.numel() == 0:
        return "", 0.0
    distance = float((first.double() - second.double()).abs().max())
    if distance != distance:  # NaN in one of them
        return "not a number", float("inf")
    kinds = "" if first.dtype == second.dtype else f", {first.dtype} -> {second.dtype}"
    return f"up to {distance:.3g}{kinds}", distance


def _aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    pairs = list(rows)
    width = max((len(name) for name, _ in pairs), default=0)
    return [f"{name:<{width}}  {text}" for name, text in pairs]


def size_text(size: float) -> str:
    """Bytes as people read them: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
