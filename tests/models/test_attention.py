"""How a model is told of the sequences in a row, and which models are refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from etude.errors import ConfigurationError
from etude.models.attention import Isolation, find_isolation, ignores_first_labels
from tests import helpers

SMALL = {
    "vocab_size": helpers.VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
ENCODER = {**SMALL, "intermediate_size": 32, "max_position_embeddings": 32}


def model_of(name: str, attention: str = "sdpa", **fields: Any) -> nn.Module:
    """A tiny model of transformers, by the name of its class."""
    cls = getattr(transformers, name)
    return cls(cls.config_class(**{**ENCODER, **fields}, attn_implementation=attention))


class Mixing(nn.Module):
    """A language model that mixes neighbouring tokens in its own way; position ids change nothing in that."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(helpers.VOCABULARY, 8)
        self.places = nn.Embedding(16, 8)
        self.mixer = mixer

    def forward(self, input_ids: Any, position_ids: Any = None, attention_mask: Any = None) -> dict[str, Any]:
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1])[None]
        hidden = self.embedding(input_ids) + self.places(position_ids)
        if isinstance(self.mixer, nn.Conv1d):
            return {"logits": self.mixer(hidden.mT).mT}
        return {"logits": self.mixer(hidden)[0]}


WINDOW = {"use_cache": False, "sliding_window": 4}
FOUND = [
    ("BertForMaskedLM", "sdpa", {}, Isolation("mask")),
    ("BertForMaskedLM", "eager", {}, Isolation("mask", additive=True)),
    ("RobertaForTokenClassification", "sdpa", {"pad_token_id": 1}, Isolation("mask", 2)),
    ("LlamaForCausalLM", "sdpa", {"use_cache": False}, Isolation("positions")),
    ("LlamaForCausalLM", "eager", {"use_cache": False}, Isolation("positions")),
    # with a cache, transformers does not look at position ids
    ("LlamaForCausalLM", "sdpa", {"use_cache": True}, Isolation("mask", causal=True)),
    (
        "OPTForCausalLM",
        "sdpa",
        {"use_cache": False, "word_embed_proj_dim": 16},
        Isolation("mask", causal=True),
    ),
    ("MistralForCausalLM", "sdpa", {**WINDOW, "num_key_value_heads": 2}, Isolation("positions")),
]


@pytest.mark.parametrize(("name", "attention", "fields", "expected"), FOUND)
def test_each_model_is_told_in_the_way_that_works(
    name: str, attention: str, fields: dict[str, Any], expected: Isolation
) -> None:
    assert find_isolation(model_of(name, attention, **fields), longest=20) == expected


def test_gpt2_is_told_by_positions() -> None:
    assert find_isolation(helpers.gpt2_model(), longest=20).told_by == "mask"  # it has a cache
    model = helpers.gpt2_model()
    model.config.use_cache = False
    assert find_isolation(model, longest=20) == Isolation("positions")


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: Mixing(nn.Conv1d(8, 8, 3, padding=1)), "change each other, although position ids"),
        (lambda: Mixing(nn.Conv1d(8, 8, 3, padding=1)), "change each other, although a mask"),
        (lambda: Mixing(nn.GRU(8, 8, batch_first=True)), "change each other"),
        (helpers.TokenTagger, "cannot be given position ids"),
        (helpers.bert_classifier, "not one for each token"),
        (helpers.DictClassifier, "no embeddings of tokens"),
        (lambda: nn.Sequential(nn.Embedding(4, 4), nn.BatchNorm1d(4)), "batch normalisation"),
        (
            lambda: model_of("T5ForConditionalGeneration", d_model=16, d_kv=8, d_ff=16),
            "an encoder and a decoder",
        ),
    ],
)
def test_models_that_do_not_keep_sequences_apart_are_refused(model: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"packing=True.*{why}.*Set `packing=False`"):
        find_isolation(model(), longest=20)


def test_a_mask_never_replaces_a_window_that_is_shorter() -> None:
    """ModernBERT's local attention, which no short probe would notice."""
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    model = model_of("ModernBertForMaskedLM", local_attention=16, **tokens)  # 8 on each side
    assert find_isolation(model, longest=8).told_by == "mask"
    with pytest.raises(ConfigurationError, match="a mask would replace the window"):
        find_isolation(model, longest=9)


def test_a_leak_too_small_for_the_tolerance_is_found() -> None:
    """Half precision rounds more than a little attention to the neighbour changes."""

    class Leaking(Mixing):
        def forward(
            self, input_ids: Any, position_ids: Any = None, attention_mask: Any = None
        ) -> dict[str, Any]:
            logits = super().forward(input_ids, position_ids)["logits"]
            return {"logits": logits + 1e-3 * logits.mean(1, keepdim=True)}

    kept = Mixing(nn.Conv1d(8, 8, 1)).to(torch.bfloat16)
    assert find_isolation(kept, longest=8) == Isolation("positions")
    with pytest.raises(ConfigurationError, match="change each other"):
        find_isolation(Leaking(nn.Conv1d(8, 8, 1)).to(torch.bfloat16), longest=8)


def test_the_probe_leaves_no_trace() -> None:
    model = model_of("BertForMaskedLM")
    model.train()
    model.bert.embeddings.eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(1)
    random.seed(1)
    drawn = (torch.get_rng_state(), random.getstate())
    find_isolation(model, longest=20)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert all(parameter.grad is None for parameter in model.parameters())


class Shifting(helpers.TokenTagger):
    """Compares each label with what is predicted before it, by itself."""

    def forward(self, input_ids: Any, labels: Any = None) -> Any:
        logits = super().forward(input_ids)["logits"]
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return loss, logits


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Shifting, True),
        (helpers.TokenTagger, False),
        (helpers.gpt2_model, True),
        (lambda: model_of("BertForMaskedLM"), False),
        (lambda: model_of("LlamaForTokenClassification"), False),
        (lambda: model_of("LlamaModel"), False),
    ],
)
def test_whether_first_labels_count_is_observed(make: Any, expected: bool) -> None:
    assert ignores_first_labels(make()) is expected
