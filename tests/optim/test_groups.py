"""Are the parameters decayed that the reference decays?"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from etude.optim.groups import decay_parameter_names, parameter_groups
from tests import helpers


class Norms(nn.Module):
    """Norms of several kinds and names, and parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.my_norm = nn.GroupNorm(1, 3)
        self.normalise = nn.Linear(3, 3)
        self.rmsnorm_1 = nn.Linear(3, 3, bias=False)
        self.plain = nn.LayerNorm(3)
        self.inside = nn.ModuleDict({"norm": nn.Linear(3, 3, bias=False), "enormous": nn.Linear(3, 3)})
        self.bias_scale = nn.Parameter(torch.ones(3))
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Any) -> Any:
        return x


TEXT = {
    "vocab_size": 16,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}
VISION = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "image_size": 8,
          "patch_size": 4}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {  # one of each family, without a decoder's second copy of the same names
    "LlamaForCausalLM": {**TEXT, "num_key_value_heads": 1},
    "Qwen3ForCausalLM": {**TEXT, "num_key_value_heads": 1, "head_dim": 4},
    "DebertaV2ForTokenClassification": {**TEXT, "relative_attention": True, "position_buckets": 4},
    "ModernBertForMaskedLM": {**TEXT, "global_attn_every_n_layers": 1, "pad_token_id": 0},
    "MambaForCausalLM": {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "state_size": 2},
    "T5ForConditionalGeneration": {
        "vocab_size": 16, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2,
    },
    "BartForConditionalGeneration": {
        "vocab_size": 16, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "max_position_embeddings": 8,
    },
    "ViTForImageClassification": VISION,
    "ConvNextForImageClassification": {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2},
    "ResNetForImageClassification": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]},
}  # fmt: skip


def from_size(name: str) -> nn.Module:
    """A tiny model of transformers with random weights."""
    import transformers

    cls = getattr(transformers, name)
    made: nn.Module = cls(cls.config_class(**SIZES[name]))
    return made


MODELS = {
    "bert": helpers.bert_classifier,
    "gpt2": helpers.gpt2_model,
    "dict": helpers.DictClassifier,
    "norms": Norms,
    **{name: partial(from_size, name) for name in SIZES},
}


@pytest.mark.parametrize("name", MODELS)
def test_decayed_parameters_are_those_of_the_reference(name: str, tmp_path: Any) -> None:
    model = MODELS[name]()
    with helpers.library("transformers") as lib:
        theirs = lib.Trainer(model, helpers.training_arguments(lib, tmp_path)).get_decay_parameter_names(
            model
        )
    names = {name for name, _ in model.named_parameters()}  # the reference lists shared ones under both names
    assert set(decay_parameter_names(model)) == set(theirs) & names


@pytest.mark.parametrize("name", MODELS)
def test_every_trained_parameter_is_in_one_group(name: str) -> None:
    model = MODELS[name]()
    frozen = next(iter(model.parameters())).requires_grad_(False)
    decayed, rest = parameter_groups(model, 0.1, decay_parameter_names(model))
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    grouped = [id(p) for p in (*decayed["params"], *rest["params"])]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p is not frozen)


def test_the_order_of_parameters_is_the_references(tmp_path: Any) -> None:
    orders = []
    model = helpers.bert_classifier()
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            trainer = lib.Trainer(model, helpers.training_arguments(lib, tmp_path, weight_decay=0.1))
            trainer.create_optimizer()
        orders.append([[id(p) for p in group["params"]] for group in trainer.optimizer.param_groups])
    assert orders[0] == orders[1]  # optimizer.pt files know parameters by their place
