"""What is told about a model from its class, compared with what it does?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from etude.core import signature
from tests import helpers


def t5_model() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=helpers.VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def bert(name: str) -> nn.Module:
    import transformers

    config = transformers.BertConfig(
        vocab_size=helpers.VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        is_decoder=name == "BertLMHeadModel",
    )  # fmt: skip
    return getattr(transformers, name)(config)


def clip_model() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    small: dict[str, Any] = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    text = CLIPTextConfig(vocab_size=20, max_position_embeddings=8, **small)
    vision = CLIPVisionConfig(image_size=4, patch_size=2, **small)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=4))


class LossByDefault(nn.Module):
    """Says that it computes a loss unless told otherwise."""

    def forward(self, x: torch.Tensor, return_loss: bool = True) -> torch.Tensor:
        return x


class AnyKeyword(nn.Module):
    """Takes any keyword."""

    def forward(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return x


MODELS = {
    "GPT2LMHeadModel": helpers.gpt2_model,
    "BertForSequenceClassification": helpers.bert_classifier,
    "BertForQuestionAnswering": lambda: bert("BertForQuestionAnswering"),
    "BertForMaskedLM": lambda: bert("BertForMaskedLM"),
    "BertLMHeadModel": lambda: bert("BertLMHeadModel"),
    "T5ForConditionalGeneration": t5_model,
    "CLIPModel": clip_model,
    "DictClassifier": helpers.DictClassifier,
    "LossByDefault": LossByDefault,
    "AnyKeyword": AnyKeyword,
}


@pytest.mark.parametrize("name", MODELS)
def test_labels_and_losses_are_found_as_the_reference_finds_them(name: str, tmp_path: Any) -> None:
    model = MODELS[name]()
    with helpers.library("transformers") as lib:
        theirs = lib.Trainer(model, helpers.training_arguments(lib, tmp_path))
    assert signature.label_names(model) == theirs.label_names
    assert signature.can_return_loss(model) == theirs.can_return_loss
    assert signature.accepts_loss_kwargs(model) == theirs.model_accepts_loss_kwargs


def test_a_declaration_goes_before_the_signature() -> None:
    model = AnyKeyword()
    model.accepts_loss_kwargs = False
    assert not signature.accepts_loss_kwargs(model)


def shifted_by_experiment(model: nn.Module) -> bool:
    """Whether the first label of a row makes no difference to the loss."""
    ids = torch.arange(4, 9).repeat(2, 1)
    losses = []
    for first in (4, 7):
        labels = ids.clone()
        labels[:, 0] = first
        with torch.no_grad():
            losses.append(model.eval()(input_ids=ids, labels=labels).loss.item())
    return losses[0] == losses[1]


@pytest.mark.parametrize(
    "name", ["GPT2LMHeadModel", "BertLMHeadModel", "BertForMaskedLM", "T5ForConditionalGeneration"]
)
def test_shifting_is_told_as_the_model_does_it(name: str) -> None:
    model = MODELS[name]()
    assert signature.shifts_labels(model) == shifted_by_experiment(model)


def test_shifting_is_told_through_a_subclass() -> None:
    from transformers import GPT2LMHeadModel

    class Mine(GPT2LMHeadModel):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs)

    model = Mine(helpers.gpt2_model().config)
    assert signature.shifts_labels(model) == shifted_by_experiment(model)


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "DictClassifier", "CLIPModel"])
def test_models_that_predict_no_sequence_do_not_shift(name: str) -> None:
    assert not signature.shifts_labels(MODELS[name]())


def test_the_main_input_is_the_models_or_tokens() -> None:
    assert signature.main_input_name(AnyKeyword()) == "input_ids"
    with_pixels = AnyKeyword()
    with_pixels.main_input_name = "pixel_values"
    assert signature.main_input_name(with_pixels) == "pixel_values"


def test_shared_parameters_count_once() -> None:
    model = helpers.gpt2_model()
    assert signature.count_parameters(model) == model.num_parameters()
    model.transformer.wte.weight.requires_grad_(False)
    frozen = model.transformer.wte.weight.numel()
    assert signature.count_parameters(model, trainable_only=True) == model.num_parameters() - frozen


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_operations_are_counted_as_in_the_reference(name: str, tmp_path: Any) -> None:
    model = MODELS[name]()
    with helpers.library("transformers") as lib:
        theirs = lib.Trainer(model, helpers.training_arguments(lib, tmp_path))
    expected = theirs.floating_point_ops({model.main_input_name: torch.ones(2, 5)})
    assert signature.operations_per_input_element(model) * 10 == expected
    assert signature.operations_per_input_element(helpers.DictClassifier()) == 0
