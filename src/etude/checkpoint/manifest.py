"""The manifest of a checkpoint: every file with its size and hash, so that a broken one is never taken for whole.

A file above 64 MiB is hashed in blocks, and what is kept is the hash of their hashes: several threads can then check
one large file.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from etude.checkpoint.files import ETUDE_STATE, MANIFEST
from etude.errors import CheckpointError

FORMAT = 1
BLOCK = 64 << 20
_LIBRARIES = ("etude", "torch", "numpy", "safetensors", "transformers", "datasets", "peft")


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says about itself.

    Attributes:
        step: number of updates done.
        world_size: number of processes that wrote it.
        files: path within the checkpoint to {"size": bytes, "sha256": hex digits}; "sha256_of_blocks" if it is large.
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
            if stored["format"] != FORMAT:
                raise ValueError(f"its format {stored['format']} is that of another version of etude")
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

    def verify(self, folder: Path, only: Callable[[str], bool] = lambda name: True) -> None:
        """Compares files with what they were when they were written.

        Args:
            only: which of them, by their paths within the checkpoint.

        Raises:
            CheckpointError: a file is missing or differs; names it.
        """
        self.verify_sizes(folder, only)
        expected = {name: entry for name, entry in self.files.items() if only(name)}
        found = _hashes([folder / name for name in expected], threads=min(8, os.cpu_count() or 1))
        for (name, entry), hashed in zip(expected.items(), found, strict=True):
            if not hashed.items() <= entry.items():
                raise CheckpointError(f"{folder} is broken: the content of {name} has changed.")

    def verify_sizes(self, folder: Path, only: Callable[[str], bool] = lambda name: True) -> None:
        """The same, without reading the files: are they there, and are they as long as they were?"""
        for name, entry in self.files.items():
            path = folder / name
            if not only(name):
                continue
            if not path.is_file():
                raise CheckpointError(f"{folder} is broken: {name} is gone.")
            size = path.stat().st_size
            if size != entry["size"]:
                raise CheckpointError(
                    f"{folder} is broken: {name} has {size:,} bytes instead of {entry['size']:,}."
                )


def matches(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file is there, and is what its entry says."""
    if not path.is_file() or path.stat().st_size != entry["size"]:
        return False
    (hashed,) = _hashes([path], threads=1)
    return hashed.items() <= entry.items()


def describe_all(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of all files in a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    hashes = _hashes(found, threads=1)  # the training is going on beside it
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, **hashed}
        for path, hashed in zip(found, hashes, strict=True)
    }


def _hashes(paths: list[Path], threads: int) -> list[dict[str, str]]:
    """The hash of each file, under the name that it has in an entry."""
    blocks = [[(path, start) for start in range(0, max(1, path.stat().st_size), BLOCK)] for path in paths]
    with ThreadPoolExecutor(threads) as pool:
        digests = pool.map(_hash_of_block, itertools.chain.from_iterable(blocks))
        return [_joined(list(itertools.islice(digests, len(own)))) for own in blocks]


def _joined(digests: list[bytes]) -> dict[str, str]:
    if len(digests) == 1:
        return {"sha256": digests[0].hex()}
    return {"sha256_of_blocks": hashlib.sha256(b"".join(digests)).hexdigest()}


def _hash_of_block(block: tuple[Path, int]) -> bytes:
    path, start = block
    digest, left = hashlib.sha256(), BLOCK
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (count := file.readinto(buffer[:left])):
            digest.update(buffer[:count])
            left -= count
    return digest.digest()


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
