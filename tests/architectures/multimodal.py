"""Models of several kinds of input: pictures with text, pages, sounds with text; and time series."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tests.architectures.architecture import (
    IGNORED,
    Architecture,
    Column,
    always,
    integers,
    numbers,
    one_of,
    ones,
    tokens,
)

ROWS_CUT = "transformers cuts outputs with several rows a sample to the number of samples"

IMAGE_TOKEN = 99
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
TEXT = {
    **LAYERS,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
VISION = {**LAYERS, "image_size": 32, "patch_size": 8}
LLAMA = {**TEXT, "model_type": "llama", "num_key_value_heads": 2, "head_dim": 8}
CLIP = {
    "text_config": {**TEXT, "projection_dim": 16},
    "vision_config": {**VISION, "projection_dim": 16},
    "projection_dim": 16,
}
SIGLIP_VISION = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False}

PICTURE = {"pixel_values": numbers(3, 32, 32)}
CAPTION = {"input_ids": tokens(8), "attention_mask": ones(8)}
PAIR = {**CAPTION, **PICTURE}
BOXES = {"bbox": always([[10, 10, 20, 20]] * 8)}


def after_images(images: int, text: int = 6) -> Column:
    """Places for an image's features, then tokens."""

    def make(generator: torch.Generator, row: Mapping[str, Any]) -> torch.Tensor:
        words = torch.randint(5, IMAGE_TOKEN - 4, (text,), generator=generator)
        return torch.cat([torch.full((images,), IMAGE_TOKEN), words])

    return make


def words_of(name: str) -> Column:
    """The tokens of another column as labels; places of images do not count."""
    return lambda generator, row: row[name].masked_fill(row[name] == IMAGE_TOKEN, IGNORED)


def places_of(name: str) -> Column:
    """One where there is an image, else zero."""
    return lambda generator, row: (row[name] == IMAGE_TOKEN).long()


def seen(images: int, text: int = 6) -> dict[str, Column]:
    """The text columns of a model that reads an image as ``images`` tokens."""
    return {
        "input_ids": after_images(images, text),
        "attention_mask": ones(images + text),
        "labels": words_of("input_ids"),
    }


def for_contrast(rows: list[Any]) -> dict[str, Any]:
    """Pairs whose loss is the contrast with the other pairs of the batch."""
    return {**{name: torch.stack([row[name] for row in rows]) for name in rows[0]}, "return_loss": True}


def strung(*names: str) -> Callable[[list[Any]], dict[str, Any]]:
    """A collator that strings some columns together (patches of all images) and stacks the others."""

    def collate(rows: list[Any]) -> dict[str, Any]:
        return {
            name: (torch.cat if name in names else torch.stack)([row[name] for row in rows])
            for name in rows[0]
        }

    return collate


def vision_encoder_decoder() -> nn.Module:
    """A ViT that sees for a GPT-2 that writes."""
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    writer = GPT2Config(
        vocab_size=100, n_embd=32, n_layer=1, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VISION), writer)
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    return VisionEncoderDecoderModel(config=config)


def trocr() -> nn.Module:
    """A ViT that sees for the decoder of TrOCR."""
    from transformers import TrOCRConfig, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    writer = TrOCRConfig(
        vocab_size=100, d_model=32, decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=40
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VISION), writer)
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    return VisionEncoderDecoderModel(config=config)


def dual_encoder() -> nn.Module:
    """A ViT beside a BERT."""
    from transformers import BertConfig, VisionTextDualEncoderConfig, VisionTextDualEncoderModel, ViTConfig

    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**VISION), BertConfig(**TEXT), projection_dim=16
    )
    return VisionTextDualEncoderModel(config)


CONTRASTIVE = (
    Architecture("CLIP", "CLIPModel", PAIR, CLIP, for_contrast, fast=True),
    Architecture(
        "CLIP (classification)",
        "CLIPForImageClassification",
        {**PICTURE, "labels": one_of(3)},
        {**CLIP, "num_labels": 3},
    ),
    Architecture("SigLIP", "SiglipModel", PAIR, CLIP, for_contrast),
    Architecture(
        "SigLIP (classification)",
        "SiglipForImageClassification",
        {**PICTURE, "labels": one_of(3)},
        {**CLIP, "num_labels": 3},
    ),
    Architecture(
        "AltCLIP", "AltCLIPModel", PAIR, {**CLIP, "text_config": {**TEXT, "project_dim": 16}}, for_contrast
    ),
    Architecture("Chinese-CLIP", "ChineseCLIPModel", PAIR, CLIP, for_contrast),
    Architecture(
        "MetaCLIP 2",
        "MetaClip2Model",
        {
            **PAIR,
            "input_ids": lambda g, r: torch.cat([torch.randint(5, 99, (7,), generator=g), torch.tensor([2])]),
        },
        CLIP,
        for_contrast,
    ),
    Architecture(
        "GroupViT",
        "GroupViTModel",
        PAIR,
        {
            "text_config": TEXT,
            "vision_config": {
                **VISION,
                "depths": [1, 1],
                "num_group_tokens": [4, 0],
                "num_output_groups": [4, 4],
            },
            "projection_dim": 16,
            "projection_intermediate_dim": 20,
        },
        for_contrast,
    ),
    Architecture(
        "CLIPSeg",
        "CLIPSegForImageSegmentation",
        {**PAIR, "labels": lambda g, r: torch.randint(2, (32, 32), generator=g).float()},
        {
            **CLIP,
            "reduce_dim": 8,
            "extract_layers": [0, 1],
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 16,
            "conditional_layer": 0,
        },
        differs={"predictions": "transformers does not gather outputs that hold None"},
    ),
    Architecture(
        "CLAP",
        "ClapModel",
        {**CAPTION, "input_features": numbers(1, 32, 8)},
        {
            "text_config": {**TEXT, "projection_dim": 16},
            "audio_config": {
                "hidden_size": 32,
                "patch_embeds_hidden_size": 16,
                "depths": [1, 1],
                "num_attention_heads": [2, 2],
                "num_hidden_layers": 2,
                "num_mel_bins": 8,
                "spec_size": 16,
                "window_size": 2,
                "projection_dim": 16,
            },
            "projection_dim": 16,
        },
        for_contrast,
    ),
    Architecture(
        "X-CLIP",
        "XCLIPModel",
        {**CAPTION, "pixel_values": numbers(2, 3, 32, 32)},
        {
            "text_config": TEXT,
            "vision_config": {
                **VISION,
                "num_frames": 2,
                "mit_hidden_size": 16,
                "mit_intermediate_size": 20,
                "mit_num_hidden_layers": 1,
                "mit_num_attention_heads": 2,
            },
            "projection_dim": 16,
            "prompt_layers": 1,
            "prompt_num_attention_heads": 2,
        },
        for_contrast,
        differs={"predictions": ROWS_CUT},
    ),
    Architecture("ViT + BERT", "VisionTextDualEncoderModel", PAIR, collator=for_contrast, build=dual_encoder),
)

VISION_LANGUAGE = (
    Architecture(
        "ViLT",
        "ViltForQuestionAnswering",
        {**PAIR, "labels": lambda g, r: torch.rand(3, generator=g)},
        {**TEXT, **VISION, "num_labels": 3},
    ),
    Architecture(
        "VisualBERT",
        "VisualBertForQuestionAnswering",
        {
            **CAPTION,
            "attention_mask": ones(8),
            "visual_embeds": numbers(4, 16),
            "visual_attention_mask": ones(4),
            "labels": lambda g, r: torch.softmax(torch.randn(3, generator=g), 0),
        },
        {**TEXT, "visual_embedding_dim": 16, "num_labels": 3},
    ),
    Architecture(
        "LXMERT",
        "LxmertForQuestionAnswering",
        {
            **CAPTION,
            "visual_feats": numbers(4, 16),
            "visual_pos": lambda g, r: torch.rand(4, 4, generator=g),
            "labels": one_of(3),
        },
        {
            **{k: v for k, v in TEXT.items() if k != "num_hidden_layers"},
            "l_layers": 1,
            "x_layers": 1,
            "r_layers": 1,
            "visual_feat_dim": 16,
            "num_qa_labels": 3,
        },
    ),
    Architecture(
        "BLIP",
        "BlipForConditionalGeneration",
        {**PAIR, "labels": lambda g, r: r["input_ids"].clone()},
        {
            "text_config": {**TEXT, "encoder_hidden_size": 32, "sep_token_id": 3},
            "vision_config": VISION,
            "image_text_hidden_size": 16,
        },
    ),
    Architecture(
        "BLIP-2",
        "Blip2ForConditionalGeneration",
        {**seen(4), **PICTURE},
        {
            "vision_config": VISION,
            "qformer_config": {**TEXT, "encoder_hidden_size": 32, "cross_attention_frequency": 1},
            "text_config": {
                "model_type": "opt",
                "vocab_size": 100,
                "hidden_size": 32,
                "word_embed_proj_dim": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "ffn_dim": 40,
                "max_position_embeddings": 64,
                "pad_token_id": 0,
            },
            "num_query_tokens": 4,
            "image_token_index": IMAGE_TOKEN,
        },
        differs={"predictions": "transformers does not gather outputs that hold a cache"},
    ),
    Architecture(
        "GIT",
        "GitForCausalLM",
        {**PAIR, "labels": lambda g, r: r["input_ids"].clone()},
        {**TEXT, "vision_config": VISION},
    ),
    Architecture(
        "LLaVA",
        "LlavaForConditionalGeneration",
        {**seen(16), **PICTURE},
        {
            "vision_config": {**VISION, "model_type": "clip_vision_model"},
            "text_config": LLAMA,
            "image_token_index": IMAGE_TOKEN,
            "image_seq_length": 16,
        },
        fast=True,
        differs={"predictions": ROWS_CUT},
    ),
    Architecture(
        "VipLLaVA",
        "VipLlavaForConditionalGeneration",
        {**seen(16), **PICTURE},
        {
            "vision_config": {**VISION, "model_type": "clip_vision_model"},
            "text_config": LLAMA,
            "image_token_index": IMAGE_TOKEN,
            "image_seq_length": 16,
            "vision_feature_layers": [0, 1],
        },
    ),
    Architecture(
        "PaliGemma",
        "PaliGemmaForConditionalGeneration",
        {**seen(16), "token_type_ids": places_of("input_ids"), **PICTURE},
        {
            "vision_config": {**SIGLIP_VISION, "projection_dim": 32},
            "text_config": {**LLAMA, "model_type": "gemma"},
            "image_token_index": IMAGE_TOKEN,
            "projection_dim": 32,
        },
    ),
    Architecture(
        "Gemma 3",
        "Gemma3ForConditionalGeneration",
        {**seen(4), "token_type_ids": places_of("input_ids"), **PICTURE},
        {
            "vision_config": SIGLIP_VISION,
            "text_config": {**LLAMA, "model_type": "gemma3_text"},
            "image_token_index": IMAGE_TOKEN,
            "mm_tokens_per_image": 4,
        },
    ),
    Architecture(
        "Idefics3",
        "Idefics3ForConditionalGeneration",
        {**seen(4), "pixel_values": numbers(1, 3, 32, 32)},
        {"vision_config": VISION, "text_config": LLAMA, "image_token_id": IMAGE_TOKEN, "scale_factor": 2},
        differs={"predictions": ROWS_CUT},
    ),
    Architecture(
        "SmolVLM",
        "SmolVLMForConditionalGeneration",
        {**seen(4), "pixel_values": numbers(1, 3, 32, 32)},
        {"vision_config": VISION, "text_config": LLAMA, "image_token_id": IMAGE_TOKEN, "scale_factor": 2},
        differs={
            "predictions": "transformers merges the features of the first image of each batch, of the second, and so on"
        },
    ),
    Architecture(
        "InternVL",
        "InternVLForConditionalGeneration",
        {**seen(4), **PICTURE},
        {
            "vision_config": {**VISION, "image_size": [32, 32], "patch_size": [8, 8]},
            "text_config": {**LLAMA, "model_type": "qwen2"},
            "image_token_id": IMAGE_TOKEN,
            "downsample_ratio": 0.5,
            "image_seq_length": 4,
        },
    ),
    Architecture(
        "Aya Vision",
        "AyaVisionForConditionalGeneration",
        {**seen(4), **PICTURE},
        {
            "vision_config": SIGLIP_VISION,
            "text_config": {**LLAMA, "model_type": "cohere2"},
            "image_token_index": IMAGE_TOKEN,
            "downsample_factor": 2,
            "adapter_layer_norm_eps": 1e-6,
        },
    ),
    Architecture(
        "Qwen2-VL",
        "Qwen2VLForConditionalGeneration",
        {
            **seen(4),
            "mm_token_type_ids": places_of("input_ids"),
            "pixel_values": numbers(16, 96),
            "image_grid_thw": always(torch.tensor([[1, 4, 4]])),
        },
        {
            "vision_config": {
                "depth": 1,
                "embed_dim": 32,
                "hidden_size": 32,
                "num_heads": 4,
                "patch_size": 4,
                "mlp_ratio": 2,
            },
            "text_config": {
                **LLAMA,
                "model_type": "qwen2_vl_text",
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [2, 1, 1],
                },
            },
            "image_token_id": IMAGE_TOKEN,
            "video_token_id": 98,
            "vision_start_token_id": 97,
            "vision_end_token_id": 96,
        },
        strung("pixel_values", "image_grid_thw"),
    ),
    Architecture(
        "Qwen3-VL",
        "Qwen3VLForConditionalGeneration",
        {
            **seen(4),
            "mm_token_type_ids": places_of("input_ids"),
            "pixel_values": numbers(16, 96),
            "image_grid_thw": always(torch.tensor([[1, 4, 4]])),
        },
        {
            "vision_config": {
                "depth": 1,
                "hidden_size": 32,
                "out_hidden_size": 32,
                "intermediate_size": 40,
                "num_heads": 4,
                "patch_size": 4,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
            },
            "text_config": {
                **LLAMA,
                "model_type": "qwen3_vl_text",
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [2, 1, 1],
                },
            },
            "image_token_id": IMAGE_TOKEN,
            "video_token_id": 98,
            "vision_start_token_id": 97,
            "vision_end_token_id": 96,
        },
        strung("pixel_values", "image_grid_thw"),
    ),
    Architecture(
        "Qwen2-Audio",
        "Qwen2AudioForConditionalGeneration",
        {**seen(10), "input_features": numbers(8, 40), "feature_attention_mask": ones(40)},
        {
            "audio_config": {
                "d_model": 32,
                "encoder_layers": 1,
                "encoder_attention_heads": 4,
                "encoder_ffn_dim": 40,
                "num_mel_bins": 8,
                "max_source_positions": 20,
            },
            "text_config": {**LLAMA, "model_type": "qwen2"},
            "audio_token_index": IMAGE_TOKEN,
        },
    ),
    Architecture(
        "ViT + GPT-2",
        "VisionEncoderDecoderModel",
        {**PICTURE, "labels": tokens(6)},
        build=vision_encoder_decoder,
    ),
    Architecture("TrOCR", "VisionEncoderDecoderModel", {**PICTURE, "labels": tokens(6)}, build=trocr),
    Architecture(
        "Pix2Struct",
        "Pix2StructForConditionalGeneration",
        {
            "flattened_patches": lambda g, r: torch.cat(
                [torch.ones(6, 2), torch.randn(6, 24, generator=g)], 1
            ),
            "attention_mask": ones(6),
            "labels": tokens(6),
        },
        {
            "text_config": {
                "vocab_size": 100,
                "hidden_size": 32,
                "d_kv": 8,
                "d_ff": 40,
                "num_layers": 1,
                "num_heads": 4,
                "pad_token_id": 0,
                "eos_token_id": 2,
                "decoder_start_token_id": 0,
            },
            "vision_config": {
                "hidden_size": 32,
                "patch_embed_hidden_size": 24,
                "d_ff": 40,
                "d_kv": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "seq_len": 8,
            },
        },
    ),
    Architecture(
        "LayoutLMv3",
        "LayoutLMv3ForTokenClassification",
        {**PAIR, **BOXES, "labels": integers(8, below=3)},
        {
            **TEXT,
            "input_size": 32,
            "patch_size": 8,
            "max_2d_position_embeddings": 64,
            "coordinate_size": 5,
            "shape_size": 6,
            "rel_pos_bins": 4,
            "rel_2d_pos_bins": 4,
            "num_labels": 3,
        },
    ),
    Architecture(
        "Kosmos-2",
        "Kosmos2ForConditionalGeneration",
        {
            "input_ids": tokens(10),
            "attention_mask": ones(10),
            "image_embeds_position_mask": lambda g, r: torch.arange(10) < 4,
            **PICTURE,
            "labels": lambda g, r: r["input_ids"].clone(),
        },
        {
            "text_config": {
                "vocab_size": 100,
                "embed_dim": 32,
                "layers": 1,
                "ffn_dim": 40,
                "attention_heads": 4,
                "max_position_embeddings": 64,
                "pad_token_id": 0,
            },
            "vision_config": VISION,
            "latent_query_num": 4,
        },
    ),
)

SERIES_CLOCK = {
    "prediction_length": 4,
    "context_length": 12,
    "lags_sequence": [1, 2],
    "num_time_features": 1,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 20,
}
SERIES = {
    "past_values": numbers(14),
    "past_time_features": numbers(14, 1),
    "past_observed_mask": lambda g, r: torch.ones(14),
    "future_values": numbers(4),
    "future_time_features": numbers(4, 1),
}
CHANNELS = {"past_values": numbers(16, 2), "future_values": numbers(4, 2)}
PATCHES = {
    "num_input_channels": 2,
    "context_length": 16,
    "patch_length": 4,
    "patch_stride": 4,
    "d_model": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 20,
    "prediction_length": 4,
}
FORECAST = {"label_names": ["future_values"]}

TIME_SERIES = (
    Architecture(
        "Time series transformer",
        "TimeSeriesTransformerForPrediction",
        SERIES,
        SERIES_CLOCK,
        arguments=FORECAST,
    ),
    Architecture("Informer", "InformerForPrediction", SERIES, SERIES_CLOCK, arguments=FORECAST),
    Architecture(
        "Autoformer",
        "AutoformerForPrediction",
        SERIES,
        {**SERIES_CLOCK, "moving_average": 3, "label_length": 4},
        arguments=FORECAST,
    ),
    Architecture("PatchTST", "PatchTSTForPrediction", CHANNELS, PATCHES, arguments=FORECAST),
    Architecture(
        "PatchTST (classification)",
        "PatchTSTForClassification",
        {"past_values": numbers(16, 2), "target_values": one_of(3)},
        {**PATCHES, "num_targets": 3, "use_cls_token": True},
        arguments={"label_names": ["target_values"]},
    ),
    Architecture(
        "PatchTSMixer",
        "PatchTSMixerForPrediction",
        CHANNELS,
        {
            "num_input_channels": 2,
            "context_length": 16,
            "patch_length": 4,
            "patch_stride": 4,
            "d_model": 16,
            "num_layers": 1,
            "prediction_length": 4,
        },
        arguments=FORECAST,
    ),
)
