"""Models that write text: decoders, mixtures of experts, state spaces, and encoders with a decoder."""

from __future__ import annotations

from typing import Any

from torch import nn

from tests.architectures.architecture import (
    Architecture,
    as_long_as,
    copy_of,
    integers,
    one_of,
    ones,
    pad,
    ragged,
    tokens,
)
from tests.parity.runner import IS_CAUSAL

SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
ONE_HEAD_SIZE = {
    name: value for name, value in SMALL.items() if name not in ("head_dim", "num_key_value_heads")
}
GPT2_LIKE = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **SPECIAL}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MAMBA = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, **SPECIAL}
BART_LIKE = {
    "vocab_size": 100,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
    **SPECIAL,
}
T5_LIKE = {
    "vocab_size": 100,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 2,
}

TEXT = {"input_ids": tokens(), "attention_mask": ones(12)}
CAUSAL = {**TEXT, "labels": copy_of("input_ids")}
RAGGED = {
    "input_ids": ragged(),
    "attention_mask": as_long_as("input_ids", ones),
    "labels": copy_of("input_ids"),
}
TRANSLATED = {**TEXT, "labels": tokens(9)}
RAGGED_PAIRS = {
    "input_ids": ragged(),
    "attention_mask": as_long_as("input_ids", ones),
    "labels": ragged(),
}


def encoder_decoder() -> nn.Module:
    """A BERT that reads for a BERT that writes."""
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    parts = [
        BertConfig(
            vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40
        )
        for _ in range(2)
    ]
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    return EncoderDecoderModel(config=config)


DECODERS = (
    Architecture("GPT", "OpenAIGPTLMHeadModel", CAUSAL, GPT2_LIKE, told=IS_CAUSAL),
    Architecture("GPT-2", "GPT2LMHeadModel", CAUSAL, GPT2_LIKE, told=IS_CAUSAL),
    Architecture(
        "GPT-2 (double heads)",
        "GPT2DoubleHeadsModel",
        {
            "input_ids": integers(3, 12, start=5),
            "mc_token_ids": integers(3, below=12),
            "labels": copy_of("input_ids"),
            "mc_labels": one_of(3),
        },
        GPT2_LIKE,
    ),
    Architecture(
        "GPT-2 (classification)",
        "GPT2ForSequenceClassification",
        {**TEXT, "labels": one_of(3)},
        {**GPT2_LIKE, "num_labels": 3},
    ),
    Architecture(
        "GPT-Neo",
        "GPTNeoForCausalLM",
        CAUSAL,
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            "max_position_embeddings": 64,
            **SPECIAL,
        },
    ),
    Architecture("GPT-NeoX", "GPTNeoXForCausalLM", CAUSAL, ONE_HEAD_SIZE),
    Architecture("GPT-J", "GPTJForCausalLM", CAUSAL, {**GPT2_LIKE, "rotary_dim": 4}),
    Architecture("GPTBigCode", "GPTBigCodeForCausalLM", CAUSAL, GPT2_LIKE),
    Architecture("CodeGen", "CodeGenForCausalLM", CAUSAL, {**GPT2_LIKE, "rotary_dim": 4, "n_ctx": 64}),
    Architecture("CTRL", "CTRLLMHeadModel", CAUSAL, {**GPT2_LIKE, "dff": 40}, told=IS_CAUSAL),
    Architecture(
        "OPT",
        "OPTForCausalLM",
        CAUSAL,
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 40,
            "max_position_embeddings": 64,
            **SPECIAL,
        },
    ),
    Architecture(
        "BLOOM",
        "BloomForCausalLM",
        CAUSAL,
        {"vocab_size": 100, "hidden_size": 32, "n_layer": 2, "n_head": 4, **SPECIAL},
    ),
    Architecture("BioGPT", "BioGptForCausalLM", CAUSAL, ONE_HEAD_SIZE),
    Architecture(
        "XGLM",
        "XGLMForCausalLM",
        CAUSAL,
        {
            "vocab_size": 100,
            "d_model": 32,
            "num_layers": 2,
            "attention_heads": 4,
            "ffn_dim": 40,
            "max_position_embeddings": 64,
            **SPECIAL,
        },
    ),
    Architecture("LLaMA", "LlamaForCausalLM", RAGGED, SMALL, collator=pad, fast=True),
    Architecture(
        "LLaMA (classification)",
        "LlamaForSequenceClassification",
        {**TEXT, "labels": one_of(3)},
        {**SMALL, "num_labels": 3},
    ),
    Architecture("Mistral", "MistralForCausalLM", CAUSAL, {**SMALL, "sliding_window": 4}),
    Architecture("Qwen2", "Qwen2ForCausalLM", CAUSAL, SMALL),
    Architecture(
        "Qwen3",
        "Qwen3ForTokenClassification",
        {**TEXT, "labels": integers(12, below=3)},
        {**SMALL, "num_labels": 3},
    ),
    Architecture("Gemma", "GemmaForCausalLM", CAUSAL, SMALL),
    Architecture("Gemma 2", "Gemma2ForCausalLM", CAUSAL, SMALL),
    Architecture("Gemma 3 (text)", "Gemma3ForCausalLM", CAUSAL, SMALL),
    Architecture("Phi", "PhiForCausalLM", CAUSAL, SMALL),
    Architecture("Phi-3", "Phi3ForCausalLM", CAUSAL, SMALL),
    Architecture("Falcon", "FalconForCausalLM", CAUSAL, ONE_HEAD_SIZE),
    Architecture(
        "MPT",
        "MptForCausalLM",
        CAUSAL,
        {
            "vocab_size": 100,
            "d_model": 32,
            "n_layers": 2,
            "n_heads": 4,
            "expansion_ratio": 2,
            "max_seq_len": 64,
        },
    ),
    Architecture("StableLM", "StableLmForCausalLM", CAUSAL, SMALL),
    Architecture("StarCoder2", "Starcoder2ForCausalLM", CAUSAL, SMALL),
    Architecture("OLMo 2", "Olmo2ForCausalLM", CAUSAL, SMALL),
    Architecture("OLMo 3", "Olmo3ForCausalLM", CAUSAL, SMALL),
    Architecture("Cohere", "CohereForCausalLM", CAUSAL, SMALL),
    Architecture("Granite", "GraniteForCausalLM", CAUSAL, SMALL),
    Architecture("SmolLM3", "SmolLM3ForCausalLM", CAUSAL, SMALL),
    Architecture("GLM-4", "Glm4ForCausalLM", CAUSAL, SMALL),
    Architecture("Persimmon", "PersimmonForCausalLM", CAUSAL, ONE_HEAD_SIZE),
    Architecture("DiffLlama", "DiffLlamaForCausalLM", CAUSAL, SMALL),
    Architecture("BitNet", "BitNetForCausalLM", CAUSAL, SMALL),
    Architecture(
        "ModernBERT decoder",
        "ModernBertDecoderForCausalLM",
        CAUSAL,
        {**ONE_HEAD_SIZE, "cls_token_id": 1, "sep_token_id": 2},
    ),
    Architecture(
        "XLNet (language model)",
        "XLNetLMHeadModel",
        {"input_ids": tokens(), "labels": copy_of("input_ids")},
        {"vocab_size": 100, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40},
    ),
)

EXPERT_MIXTURES = (
    Architecture(
        "Mixtral",
        "MixtralForCausalLM",
        CAUSAL,
        {**SMALL, **LOCAL_EXPERTS, "output_router_logits": True},
    ),
    Architecture(
        "Qwen2-MoE",
        "Qwen2MoeForCausalLM",
        CAUSAL,
        {**SMALL, **EXPERTS, "shared_expert_intermediate_size": 16, "output_router_logits": True},
    ),
    Architecture("Qwen3-MoE", "Qwen3MoeForCausalLM", RAGGED, {**SMALL, **EXPERTS}, collator=pad),
    Architecture(
        "DeepSeek-V2",
        "DeepseekV2ForCausalLM",
        CAUSAL,
        {
            **SMALL,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "head_dim": 4,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
    Architecture(
        "DeepSeek-V3",
        "DeepseekV3ForCausalLM",
        CAUSAL,
        {
            **SMALL,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "head_dim": 4,
            "n_group": 2,
            "topk_group": 1,
        },
    ),
    Architecture("OLMoE", "OlmoeForCausalLM", CAUSAL, {**SMALL, **EXPERTS, "output_router_logits": True}),
    Architecture("GraniteMoE", "GraniteMoeForCausalLM", CAUSAL, {**SMALL, **LOCAL_EXPERTS}),
    Architecture("GPT-OSS", "GptOssForCausalLM", CAUSAL, {**SMALL, **LOCAL_EXPERTS}),
    Architecture(
        "DBRX",
        "DbrxForCausalLM",
        CAUSAL,
        {
            "vocab_size": 100,
            "d_model": 32,
            "n_layers": 2,
            "n_heads": 4,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
            "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
        },
    ),
    Architecture("PhiMoE", "PhimoeForCausalLM", CAUSAL, {**SMALL, **LOCAL_EXPERTS}),
    Architecture("JetMoE", "JetMoeForCausalLM", CAUSAL, {**SMALL, **LOCAL_EXPERTS, "kv_channels": 8}),
    Architecture(
        "Jamba",
        "JambaForCausalLM",
        CAUSAL,
        {
            **SMALL,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    Architecture(
        "Switch Transformer",
        "SwitchTransformersForConditionalGeneration",
        TRANSLATED,
        {
            **T5_LIKE,
            "num_decoder_layers": 2,
            "num_experts": 4,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
            "expert_capacity": 8,
        },
    ),
    Architecture(
        "NLLB-MoE",
        "NllbMoeForConditionalGeneration",
        TRANSLATED,
        {
            **BART_LIKE,
            "num_experts": 4,
            "encoder_sparse_step": 2,
            "decoder_sparse_step": 2,
            "expert_capacity": 20,
        },
    ),
)

STATE_SPACES = (
    Architecture("Mamba", "MambaForCausalLM", CAUSAL, MAMBA),
    Architecture(
        "Mamba 2",
        "Mamba2ForCausalLM",
        CAUSAL,
        {**MAMBA, "head_dim": 16, "num_heads": 4, "n_groups": 1, "chunk_size": 4},
    ),
    Architecture("Falcon-Mamba", "FalconMambaForCausalLM", CAUSAL, MAMBA),
    Architecture(
        "Bamba",
        "BambaForCausalLM",
        CAUSAL,
        {
            **SMALL,
            "attn_layer_indices": [1],
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 4,
            "mamba_expand": 2,
            "mamba_chunk_size": 4,
        },
    ),
    Architecture(
        "Zamba 2",
        "Zamba2ForCausalLM",
        CAUSAL,
        {
            **SMALL,
            "attention_head_dim": 16,
            "num_key_value_heads": 4,
            "num_mem_blocks": 1,
            "layers_block_type": ["mamba", "hybrid"],
            "mamba_d_state": 4,
            "n_mamba_heads": 4,
            "mamba_headdim": 16,
            "mamba_ngroups": 1,
            "chunk_size": 4,
            "use_mamba_kernels": False,
        },
    ),
    Architecture(
        "RecurrentGemma",
        "RecurrentGemmaForCausalLM",
        CAUSAL,
        {
            **SMALL,
            "lru_width": 32,
            "attention_window_size": 4,
            "num_key_value_heads": 1,
            "block_types": ["recurrent", "attention"],
        },
    ),
    Architecture(
        "RWKV",
        "RwkvForCausalLM",
        CAUSAL,
        {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 64, **SPECIAL},
    ),
    Architecture(
        "xLSTM",
        "xLSTMForCausalLM",
        {"input_ids": tokens(16), "labels": copy_of("input_ids")},
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "embedding_dim": 32,
            "num_hidden_layers": 2,
            "num_blocks": 2,
            "num_heads": 2,
            "chunk_size": 16,
            **SPECIAL,
        },
    ),
    Architecture(
        "LFM2",
        "Lfm2ForCausalLM",
        CAUSAL,
        {**SMALL, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    ),
    Architecture(
        "Qwen3-Next",
        "Qwen3NextForCausalLM",
        CAUSAL,
        {
            **SMALL,
            **EXPERTS,
            "shared_expert_intermediate_size": 16,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
    Architecture(
        "Falcon-H1",
        "FalconH1ForCausalLM",
        CAUSAL,
        {
            **SMALL,
            "mamba_d_ssm": 32,
            "mamba_n_heads": 4,
            "mamba_d_head": 8,
            "mamba_d_state": 4,
            "mamba_chunk_size": 4,
        },
    ),
)

ENCODER_DECODERS = (
    Architecture("T5", "T5ForConditionalGeneration", RAGGED_PAIRS, T5_LIKE, collator=pad, fast=True),
    Architecture("mT5", "MT5ForConditionalGeneration", TRANSLATED, T5_LIKE),
    Architecture("UMT5", "UMT5ForConditionalGeneration", TRANSLATED, T5_LIKE),
    Architecture(
        "T5 (classification)",
        "T5ForSequenceClassification",
        {"input_ids": lambda g, r: _ended(tokens()(g, r)), "attention_mask": ones(12), "labels": one_of(3)},
        {**T5_LIKE, "num_labels": 3},
    ),
    Architecture("LongT5", "LongT5ForConditionalGeneration", TRANSLATED, {**T5_LIKE, "local_radius": 4}),
    Architecture("BART", "BartForConditionalGeneration", TRANSLATED, BART_LIKE),
    Architecture(
        "BART (classification)",
        "BartForSequenceClassification",
        {"input_ids": lambda g, r: _ended(tokens()(g, r)), "attention_mask": ones(12), "labels": one_of(3)},
        {**BART_LIKE, "num_labels": 3},
    ),
    Architecture("mBART", "MBartForConditionalGeneration", TRANSLATED, BART_LIKE),
    Architecture("MVP", "MvpForConditionalGeneration", TRANSLATED, BART_LIKE),
    Architecture("PLBart", "PLBartForConditionalGeneration", TRANSLATED, BART_LIKE),
    Architecture("Pegasus", "PegasusForConditionalGeneration", TRANSLATED, BART_LIKE),
    Architecture(
        "PEGASUS-X",
        "PegasusXForConditionalGeneration",
        TRANSLATED,
        {**BART_LIKE, "block_size": 4, "num_global_tokens": 2},
    ),
    Architecture(
        "BigBird-Pegasus",
        "BigBirdPegasusForConditionalGeneration",
        TRANSLATED,
        {**BART_LIKE, "attention_type": "original_full"},
    ),
    Architecture("Marian", "MarianMTModel", TRANSLATED, {**BART_LIKE, "decoder_vocab_size": 100}),
    Architecture("M2M100", "M2M100ForConditionalGeneration", TRANSLATED, BART_LIKE),
    Architecture("Blenderbot-small", "BlenderbotSmallForConditionalGeneration", TRANSLATED, BART_LIKE),
    Architecture(
        "LED",
        "LEDForConditionalGeneration",
        TRANSLATED,
        {
            **BART_LIKE,
            "attention_window": 4,
            "max_encoder_position_embeddings": 64,
            "max_decoder_position_embeddings": 64,
        },
    ),
    Architecture(
        "ProphetNet",
        "ProphetNetForConditionalGeneration",
        TRANSLATED,
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "num_encoder_attention_heads": 4,
            "num_decoder_attention_heads": 4,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 40,
            "max_position_embeddings": 64,
            "decoder_start_token_id": 0,
            **SPECIAL,
        },
    ),
    Architecture(
        "FSMT",
        "FSMTForConditionalGeneration",
        {**TRANSLATED, "decoder_input_ids": tokens(9)},
        {
            "langs": ["en", "de"],
            "src_vocab_size": 100,
            "tgt_vocab_size": 100,
            **{k: v for k, v in BART_LIKE.items() if k != "vocab_size"},
        },
    ),
    Architecture(
        "BERT2BERT",
        "EncoderDecoderModel",
        TRANSLATED,
        build=encoder_decoder,
        warns="Version v4.12.0 introduces a better way to train encoder-decoder models",
    ),
)


def _ended(ids: Any) -> Any:
    """A sequence with its end-of-sequence token, which these heads look for."""
    ids[-1] = 2
    return ids
