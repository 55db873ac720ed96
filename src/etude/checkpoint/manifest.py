"""The manifest of a checkpoint: every file with its size and hash, so that a broken one is never taken for whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from etude.checkpoint.files import ETUDE_STATE, MANIFEST
from etude.errors import CheckpointError

FORMAT = 1
_LIBRARIES = ("etude", "torch", "numpy", "safetensors", "transformers", "datasets", "peft")


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says about itself.

    Attributes:
        step: number of updates done.
        world_size: number of processes that wrote it.
        files: path within the checkpoint to {"size": bytes, "sha256": hex digits}.
        facts: what else is worth knowing: library versions, the data's fingerprint.
    """

    step: int
    world_size: int
    files: dict[str, dict[str, Any]]
    facts: dict[str, Any]

    @staticmethod
    def load(folder: Path) -> Manifest | None:
        """The manifest of a checkpoint; None where it has none, as one of the reference.

        Raises:
            CheckpointError: it is damaged, or gone from a checkpoint that etude wrote.
        """
        path = folder / MANIFEST
        if not path.is_file():
            if (folder / ETUDE_STATE).is_file():
                raise CheckpointError(f"{folder} is broken: {MANIFEST} is gone.")
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            checksum = stored.pop("checksum")
            if checksum != _checksum(stored):
                raise ValueError("its own checksum does not match")
            facts = {k: v for k, v in stored.items() if k not in ("format", "step", "world_size", "files")}
            return Manifest(stored["step"], stored["world_size"], stored["files"], facts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{folder} is broken: {MANIFEST} cannot be used ({error}).") from error

    def save(self, folder: Path) -> None:
        """Writes it into the folder."""
        content = {
            "format": FORMAT,
            "step": self.step,
            "world_size": self.world_size,
            **self.facts,
            "files": self.files,
        }
        content["checksum"] = _checksum(content)
        (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def verify(self, folder: Path) -> None:
        """Compares every file with what it was when it was written.

        Raises:
            CheckpointError: a file is missing or differs; names it.
        """
        for name, expected in self.files.items():
            path = folder / name
            if not path.is_file():
                raise CheckpointError(f"{folder} is broken: {name} is gone.")
            size = path.stat().st_size
            if size != expected["size"]:
                raise CheckpointError(
                    f"{folder} is broken: {name} has {size:,} bytes instead of {expected['size']:,}."
                )
        for name, expected in self.files.items():
            if sha256(folder / name) != expected["sha256"]:
                raise CheckpointError(f"{folder} is broken: the content of {name} has changed.")


def describe(path: Path) -> dict[str, Any]:
    """A file's entry in the manifest."""
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def describe_all(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of all files in a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): describe(path) for path in found}


def sha256(path: Path) -> str:
    """Hash of a file's content, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(1 << 20))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that a run depends on."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
