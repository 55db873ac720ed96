"""Models that hear: recognition by CTC or by a decoder, classification of sounds and of speakers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tests.architectures.architecture import (
    DRAWN,
    Architecture,
    Column,
    numbers,
    one_of,
    ones,
    pad,
    ragged,
    tokens,
)

LETTERS = 30
WAVE_ENCODER = {
    "vocab_size": LETTERS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": [16, 16],
    "conv_stride": [5, 4],
    "conv_kernel": [10, 4],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_length": 2,
    "classifier_proj_size": 16,
    "pad_token_id": 0,
}
CLASSES = {**WAVE_ENCODER, "num_labels": 3}
XVECTOR = {
    **CLASSES,
    "tdnn_dim": [16, 16],
    "tdnn_kernel": [3, 1],
    "tdnn_dilation": [1, 1],
    "xvector_output_dim": 16,
}
FEATURE_ENCODER = {
    "vocab_size": LETTERS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "feature_projection_input_dim": 8,
    "mask_time_length": 2,
    "conv_depthwise_kernel_size": 3,
}
DECODER = {
    "vocab_size": 100,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "decoder_start_token_id": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def waves(shortest: int = 400, longest: int = 600) -> Column:
    """Sounds of a length of their own."""

    def make(generator: torch.Generator, row: Mapping[str, Any]) -> torch.Tensor:
        length = int(torch.randint(shortest, longest + 1, (), generator=generator))
        return torch.randn(length, generator=generator)

    return make


def speech_encoder_decoder() -> nn.Module:
    """A wav2vec 2.0 that hears for a BERT that writes."""
    from transformers import BertConfig, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, Wav2Vec2Config

    writer = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40
    )
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(Wav2Vec2Config(**WAVE_ENCODER), writer)
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    return SpeechEncoderDecoderModel(config=config)


SPELLED = {"input_values": waves(), "labels": ragged(2, 5, below=LETTERS)}
SOUND = {"input_values": numbers(500)}
CLASSIFIED = {**SOUND, "labels": one_of(3)}
WRITTEN = {"input_features": numbers(8, 40), "labels": tokens(6)}

SPEECH = (
    Architecture("wav2vec 2.0", "Wav2Vec2ForCTC", SPELLED, WAVE_ENCODER, pad, fast=True),
    Architecture("wav2vec 2.0 (classification)", "Wav2Vec2ForSequenceClassification", CLASSIFIED, CLASSES),
    Architecture("wav2vec 2.0 (speakers)", "Wav2Vec2ForXVector", CLASSIFIED, XVECTOR),
    Architecture(
        "wav2vec 2.0 conformer",
        "Wav2Vec2ConformerForCTC",
        SPELLED,
        {**WAVE_ENCODER, "conv_depthwise_kernel_size": 3},
        pad,
    ),
    Architecture(
        "wav2vec 2.0-BERT",
        "Wav2Vec2BertForCTC",
        {"input_features": numbers(24, 8), "labels": tokens(4, below=LETTERS)},
        FEATURE_ENCODER,
    ),
    Architecture("HuBERT", "HubertForCTC", SPELLED, WAVE_ENCODER, pad),
    Architecture("WavLM", "WavLMForSequenceClassification", CLASSIFIED, CLASSES),
    Architecture(
        "WavLM (frames)",
        "WavLMForAudioFrameClassification",
        {**SOUND, "labels": lambda g, row: torch.eye(3)[torch.randint(3, (24,), generator=g)]},
        CLASSES,
    ),
    Architecture("UniSpeech", "UniSpeechForCTC", SPELLED, {**WAVE_ENCODER, "num_ctc_classes": LETTERS}, pad),
    Architecture("UniSpeech-SAT", "UniSpeechSatForXVector", CLASSIFIED, XVECTOR),
    Architecture("SEW", "SEWForCTC", SPELLED, WAVE_ENCODER, pad),
    Architecture("SEW-D", "SEWDForSequenceClassification", CLASSIFIED, CLASSES),
    Architecture(
        "data2vec-audio", "Data2VecAudioForCTC", SPELLED, {**WAVE_ENCODER, "conv_pos_kernel_size": 3}, pad
    ),
    Architecture(
        "Parakeet",
        "ParakeetForCTC",
        {"input_features": numbers(64, 16), "attention_mask": ones(64), "labels": tokens(4, below=LETTERS)},
        {
            "vocab_size": LETTERS,
            "pad_token_id": 0,
            "encoder_config": {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "intermediate_size": 40,
                "num_mel_bins": 16,
                "subsampling_factor": 4,
                "subsampling_conv_channels": 8,
                "conv_kernel_size": 3,
            },
        },
    ),
    Architecture(
        "AST",
        "ASTForAudioClassification",
        {"input_values": numbers(24, 16), "labels": one_of(3)},
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "patch_size": 8,
            "frequency_stride": 8,
            "time_stride": 8,
            "max_length": 24,
            "num_mel_bins": 16,
            "num_labels": 3,
        },
    ),
    Architecture(
        "Whisper",
        "WhisperForConditionalGeneration",
        WRITTEN,
        {
            **DECODER,
            "num_mel_bins": 8,
            "max_source_positions": 20,
            "max_target_positions": 20,
            "begin_suppress_tokens": None,
        },
    ),
    Architecture(
        "Whisper (classification)",
        "WhisperForAudioClassification",
        {"input_features": numbers(8, 40), "labels": one_of(3)},
        {
            **DECODER,
            "num_mel_bins": 8,
            "max_source_positions": 20,
            "begin_suppress_tokens": None,
            "classifier_proj_size": 16,
            "num_labels": 3,
        },
    ),
    Architecture(
        "Speech2Text",
        "Speech2TextForConditionalGeneration",
        {"input_features": numbers(32, 8), "labels": tokens(6)},
        {
            **DECODER,
            "conv_channels": 32,
            "input_feat_per_channel": 8,
            "max_source_positions": 64,
            "max_target_positions": 20,
        },
    ),
    Architecture(
        "SpeechT5 (recognition)",
        "SpeechT5ForSpeechToText",
        {**SOUND, "labels": tokens(6)},
        {
            **WAVE_ENCODER,
            "vocab_size": 100,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 40,
            "decoder_start_token_id": 1,
        },
    ),
    Architecture(
        "SpeechT5 (synthesis)",
        "SpeechT5ForTextToSpeech",
        {"input_ids": tokens(), "labels": numbers(12, 8), "speaker_embeddings": numbers(16)},
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 40,
            "num_mel_bins": 8,
            "speech_decoder_prenet_units": 16,
            "speech_decoder_postnet_units": 16,
            "speech_decoder_postnet_layers": 2,
            "speaker_embedding_dim": 16,
            "use_guided_attention_loss": False,
        },
        arguments={"label_names": ["labels"]},
        differs={"predictions": DRAWN},
    ),
    Architecture(
        "Moonshine",
        "MoonshineForConditionalGeneration",
        {"input_values": numbers(2000), "labels": tokens(6)},
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "intermediate_size": 40,
            "encoder_num_hidden_layers": 1,
            "decoder_num_hidden_layers": 1,
            "encoder_num_attention_heads": 4,
            "decoder_num_attention_heads": 4,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
        },
    ),
    Architecture(
        "wav2vec 2.0 + BERT",
        "SpeechEncoderDecoderModel",
        {**SOUND, "labels": tokens(6)},
        build=speech_encoder_decoder,
    ),
)
