"""Do weights come back as they were, or not at all?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from etude.checkpoint.weights import load_weights, save_weights
from etude.errors import CheckpointError
from tests import helpers


class Tied(nn.Module):
    """A plain module whose two ends share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embedding.weight
        self.register_buffer("steps", torch.tensor(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(x))


MODELS = {
    "plain": helpers.DictClassifier,
    "tied": Tied,
    "bert": helpers.bert_classifier,
    "gpt2": helpers.gpt2_model,
}


def scrambled(make: Any) -> nn.Module:
    model = make()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_()
    return model


@pytest.mark.parametrize("name", MODELS)
def test_weights_come_back(name: str, tmp_path: Path) -> None:
    saved, loaded = scrambled(MODELS[name]), scrambled(MODELS[name])
    save_weights(saved, str(tmp_path))
    load_weights(loaded, str(tmp_path))
    helpers.assert_identical(helpers.weights_of(loaded), helpers.weights_of(saved))


def test_tied_weights_stay_tied_and_are_written_once(tmp_path: Path) -> None:
    save_weights(scrambled(Tied), str(tmp_path))
    names = set(load_file(tmp_path / "model.safetensors"))
    assert len(names & {"embedding.weight", "head.weight"}) == 1
    model = Tied()
    load_weights(model, str(tmp_path))
    assert model.head.weight is model.embedding.weight


def test_a_given_state_is_what_a_plain_module_writes(tmp_path: Path) -> None:
    model = helpers.DictClassifier()
    state = {name: torch.full_like(value, 3.0) for name, value in model.state_dict().items()}
    save_weights(model, str(tmp_path), state_dict=state)
    helpers.assert_identical(load_file(tmp_path / "model.safetensors"), state)


def sharded(model: nn.Module, folder: Path) -> dict[str, Any]:
    """Writes the model in two files, as the reference does with large ones."""
    model.save_pretrained(folder, max_shard_size="20KB")
    index: dict[str, Any] = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    return index


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_weights_in_several_files_come_back(name: str, tmp_path: Path) -> None:
    saved, loaded = scrambled(MODELS[name]), scrambled(MODELS[name])
    sharded(saved, tmp_path)
    load_weights(loaded, str(tmp_path))
    helpers.assert_identical(helpers.weights_of(loaded), helpers.weights_of(saved))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("several", [False, True])
def test_weights_of_version_4_come_back(name: str, several: bool, tmp_path: Path) -> None:
    saved, loaded = scrambled(MODELS[name]), scrambled(MODELS[name])
    state = saved.state_dict()
    parts = [state]
    if several:
        names = list(state)
        parts = [{key: state[key] for key in names[i::2]} for i in range(2)]
        index = {key: f"pytorch_model-{i}.bin" for i, part in enumerate(parts) for key in part}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    for i, part in enumerate(parts):
        torch.save(part, tmp_path / (f"pytorch_model-{i}.bin" if several else "pytorch_model.bin"))
    load_weights(loaded, str(tmp_path))
    helpers.assert_identical(helpers.weights_of(loaded), helpers.weights_of(saved))


def edited(folder: Path, **changes: torch.Tensor | None) -> None:
    """Changes tensors of the one file; None takes one out."""
    path = folder / "model.safetensors"
    tensors = {**load_file(path), **{name.replace("__", "."): value for name, value in changes.items()}}
    save_file(
        {name: value for name, value in tensors.items() if value is not None}, path, metadata={"format": "pt"}
    )


CHANGES: dict[str, tuple[str, dict[str, torch.Tensor | None]]] = {
    "plain, one missing": ("plain", {"head__weight": None}),
    "plain, one too many": ("plain", {"tail__weight": torch.ones(2)}),
    "plain, another shape": ("plain", {"head__weight": torch.ones(2, 2)}),
    "bert, one missing": ("bert", {"classifier__weight": None}),
    "bert, one too many": ("bert", {"tail__weight": torch.ones(2)}),
    "bert, another shape": ("bert", {"classifier__weight": torch.ones(7, 32)}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_do_not_fit_are_an_error(change: str, tmp_path: Path) -> None:
    name, changes = CHANGES[change]
    model = MODELS[name]()
    save_weights(model, str(tmp_path))
    edited(tmp_path, **changes)
    with pytest.raises(CheckpointError, match="do not fit the model"):
        load_weights(scrambled(MODELS[name]), str(tmp_path))


@pytest.mark.parametrize("change", ["one missing", "one too many"])
def test_files_that_do_not_fit_are_an_error(change: str, tmp_path: Path) -> None:
    index = sharded(helpers.gpt2_model(), tmp_path)
    part = tmp_path / index["weight_map"]["transformer.ln_f.weight"]
    tensors = load_file(part)
    tensors["extra"] = tensors.pop("transformer.ln_f.weight") if change == "one missing" else torch.ones(1)
    save_file(tensors, part, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="do not fit the model"):
        load_weights(helpers.gpt2_model(), str(tmp_path))


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights.*neither model.safetensors nor"):
        load_weights(helpers.DictClassifier(), str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "file gone"])
def test_damaged_weights_are_an_error_that_names_the_folder(damage: str, tmp_path: Path) -> None:
    if damage == "cut":
        save_weights(helpers.DictClassifier(), str(tmp_path))
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-8])
        model: nn.Module = helpers.DictClassifier()
    else:
        index = sharded(helpers.gpt2_model(), tmp_path)
        (tmp_path / sorted(set(index["weight_map"].values()))[-1]).unlink()
        model = helpers.gpt2_model()
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_weights(model, str(tmp_path))
