"""Encoders of text, with the heads that they are used with."""

from __future__ import annotations

from tests.architectures.architecture import (
    Architecture,
    always,
    as_long_as,
    copy_of,
    integers,
    numbers,
    one_of,
    ones,
    pad,
    ragged,
    tokens,
)

SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
CLASSES = {**SMALL, "num_labels": 3}
XLM_LIKE = {
    "vocab_size": 100,
    "emb_dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 64,
    "n_langs": 1,
}
FUNNEL = {
    "vocab_size": 100,
    "d_model": 32,
    "n_head": 4,
    "d_head": 8,
    "d_inner": 40,
    "block_sizes": [1, 1],
    "num_decoder_layers": 1,
}

TEXT = {"input_ids": tokens(), "attention_mask": ones(12)}
CLASSIFIED = {**TEXT, "labels": one_of(3)}
TAGGED = {**TEXT, "labels": integers(12, below=3)}
MASKED = {**TEXT, "labels": copy_of("input_ids")}
SPAN = {**TEXT, "start_positions": integers(below=12), "end_positions": integers(below=12)}
CHOICES = {"input_ids": integers(3, 12, start=5), "attention_mask": ones(3, 12), "labels": one_of(3)}
RAGGED = {
    "input_ids": ragged(),
    "attention_mask": as_long_as("input_ids", ones),
    "labels": as_long_as("input_ids", lambda n: integers(n, below=3)),
}
BOXES = {"bbox": always([[10, 10, 20, 20]] * 12)}

TEXT_ENCODERS = (
    Architecture("BERT", "BertForSequenceClassification", CLASSIFIED, CLASSES, fast=True),
    Architecture(
        "BERT (pretraining)",
        "BertForPreTraining",
        {**MASKED, "next_sentence_label": one_of(2)},
        SMALL,
    ),
    Architecture(
        "BERT (next sentence)", "BertForNextSentencePrediction", {**TEXT, "labels": one_of(2)}, SMALL
    ),
    Architecture("RoBERTa", "RobertaForTokenClassification", RAGGED, CLASSES, collator=pad),
    Architecture(
        "RoBERTa (regression)",
        "RobertaForSequenceClassification",
        {**TEXT, "labels": numbers()},
        {**SMALL, "num_labels": 1},
    ),
    Architecture("XLM-RoBERTa", "XLMRobertaForMaskedLM", MASKED, SMALL),
    Architecture(
        "DistilBERT",
        "DistilBertForQuestionAnswering",
        SPAN,
        {
            "vocab_size": 100,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 40,
            "max_position_embeddings": 64,
        },
    ),
    Architecture("ALBERT", "AlbertForMaskedLM", MASKED, {**SMALL, "embedding_size": 16}),
    Architecture(
        "ELECTRA",
        "ElectraForPreTraining",
        {**TEXT, "labels": integers(12, below=2)},
        {**SMALL, "embedding_size": 16},
    ),
    Architecture(
        "DeBERTa",
        "DebertaForTokenClassification",
        TAGGED,
        {**CLASSES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    ),
    Architecture(
        "DeBERTa-v2",
        "DebertaV2ForSequenceClassification",
        CLASSIFIED,
        {**CLASSES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    ),
    Architecture(
        "ModernBERT",
        "ModernBertForMaskedLM",
        MASKED,
        {**SMALL, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    Architecture(
        "EuroBERT",
        "EuroBertForMaskedLM",
        MASKED,
        {**SMALL, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3},
    ),
    Architecture("MPNet", "MPNetForMultipleChoice", CHOICES, SMALL),
    Architecture("Funnel", "FunnelForSequenceClassification", CLASSIFIED, {**FUNNEL, "num_labels": 3}),
    Architecture(
        "BigBird", "BigBirdForQuestionAnswering", SPAN, {**SMALL, "attention_type": "original_full"}
    ),
    Architecture(
        "Longformer", "LongformerForTokenClassification", TAGGED, {**CLASSES, "attention_window": 4}
    ),
    Architecture(
        "CANINE",
        "CanineForSequenceClassification",
        CLASSIFIED,
        {**CLASSES, "num_hash_buckets": 50, "num_hash_functions": 2},
    ),
    Architecture("FNet", "FNetForMaskedLM", {"input_ids": tokens(), "labels": copy_of("input_ids")}, SMALL),
    Architecture(
        "SqueezeBERT",
        "SqueezeBertForSequenceClassification",
        CLASSIFIED,
        {
            **CLASSES,
            "embedding_size": 32,
            "q_groups": 2,
            "k_groups": 2,
            "v_groups": 2,
            "post_attention_groups": 2,
            "intermediate_groups": 2,
            "output_groups": 1,
        },
    ),
    Architecture(
        "MobileBERT",
        "MobileBertForSequenceClassification",
        CLASSIFIED,
        {**CLASSES, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    ),
    Architecture(
        "Nyströmformer",
        "NystromformerForMaskedLM",
        MASKED,
        {**SMALL, "segment_means_seq_len": 12, "num_landmarks": 4},
    ),
    Architecture(
        "ConvBERT", "ConvBertForSequenceClassification", CLASSIFIED, {**CLASSES, "embedding_size": 32}
    ),
    Architecture("RoFormer", "RoFormerForMultipleChoice", CHOICES, {**SMALL, "embedding_size": 32}),
    Architecture(
        "ESM",
        "EsmForMaskedLM",
        MASKED,
        {**SMALL, "mask_token_id": 3, "token_dropout": False, "position_embedding_type": "rotary"},
    ),
    Architecture("I-BERT", "IBertForSequenceClassification", CLASSIFIED, CLASSES),
    Architecture(
        "XLNet",
        "XLNetForSequenceClassification",
        CLASSIFIED,
        {
            "vocab_size": 100,
            "d_model": 32,
            "n_layer": 2,
            "n_head": 4,
            "d_inner": 40,
            "num_labels": 3,
            "mem_len": 4,
        },
    ),
    Architecture("XLM", "XLMForQuestionAnsweringSimple", SPAN, XLM_LIKE),
    Architecture("FlauBERT", "FlaubertForSequenceClassification", CLASSIFIED, {**XLM_LIKE, "num_labels": 3}),
    Architecture(
        "RemBERT",
        "RemBertForMaskedLM",
        MASKED,
        {**SMALL, "input_embedding_size": 16, "output_embedding_size": 16},
    ),
    Architecture(
        "LayoutLM",
        "LayoutLMForTokenClassification",
        {**TAGGED, **BOXES},
        {**CLASSES, "max_2d_position_embeddings": 64},
    ),
    Architecture(
        "LiLT",
        "LiltForTokenClassification",
        {**TAGGED, **BOXES},
        {**CLASSES, "hidden_size": 48, "max_2d_position_embeddings": 64, "channel_shrink_ratio": 2},
    ),
    Architecture(
        "Reformer",
        "ReformerForSequenceClassification",
        {"input_ids": tokens(16), "attention_mask": ones(16), "labels": one_of(3)},
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "attention_head_size": 16,
            "feed_forward_size": 40,
            "attn_layers": ["local", "local"],
            "axial_pos_shape": [4, 4],
            "axial_pos_embds_dim": [16, 16],
            "local_attn_chunk_length": 4,
            "num_labels": 3,
            "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.0,
            "local_attention_probs_dropout_prob": 0.0,
            "pad_token_id": 0,
            "is_decoder": False,
        },
    ),
    Architecture(
        "Perceiver",
        "PerceiverForMaskedLM",
        {"input_ids": tokens(16), "attention_mask": ones(16), "labels": copy_of("input_ids")},
        {
            "vocab_size": 100,
            "num_latents": 8,
            "d_latents": 32,
            "d_model": 16,
            "num_blocks": 1,
            "num_self_attends_per_block": 2,
            "num_self_attention_heads": 2,
            "num_cross_attention_heads": 2,
            "max_position_embeddings": 16,
        },
    ),
    Architecture(
        "LUKE",
        "LukeForSequenceClassification",
        CLASSIFIED,
        {**CLASSES, "entity_vocab_size": 10, "entity_emb_size": 16},
    ),
    Architecture("Splinter", "SplinterForQuestionAnswering", SPAN, SMALL),
    Architecture(
        "TAPAS",
        "TapasForSequenceClassification",
        {**CLASSIFIED, "token_type_ids": integers(12, 7, below=2)},
        CLASSES,
    ),
    Architecture("Nomic BERT", "NomicBertForMaskedLM", MASKED, SMALL),
    Architecture(
        "X-MOD",
        "XmodForSequenceClassification",
        CLASSIFIED,
        {**CLASSES, "languages": ["en_XX"], "default_language": "en_XX"},
    ),
    Architecture("YOSO", "YosoForMaskedLM", MASKED, {**SMALL, "use_expectation": True}),
)
