"""Models that see: classification of images and films, detection, segmentation, depth, and learning without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tests.architectures.architecture import DRAWN, Architecture, Column, in_lists, integers, numbers, one_of

LABELS_IN_LISTS = (
    "transformers merges the labels of the first image of each batch, those of the second, and so on"
)
BROADCAST = "transformers cannot add up its losses, which have one element and a dimension"
IN_PLACE = "transformers changes its loss in place, which the backward of a square root forbids"

SIZE = 32
TRANSFORMER = {
    "image_size": SIZE,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}
VIT = {**TRANSFORMER, "num_labels": 3}
STAGES = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4]}
SWIN = {"image_size": SIZE, "patch_size": 4, "window_size": 4, **STAGES, "num_labels": 3}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1], "num_labels": 3}
BACKBONE = {"model_type": "resnet", **RESNET, "out_features": ["stage2", "stage3", "stage4"]}
LAST_STAGE = {**BACKBONE, "out_features": ["stage4"]}
PYRAMID = {
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 16,
    "num_labels": 3,
}
DETR = {
    "backbone_config": LAST_STAGE,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "num_queries": 6,
    "num_labels": 3,
}
RT_DETR = {
    "d_model": 32,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [12, 16, 20],
    "decoder_in_channels": [32, 32, 32],
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "decoder_layers": 2,
    "num_queries": 6,
    "num_denoising": 4,
    "num_labels": 3,
}

IMAGE = {"pixel_values": numbers(3, SIZE, SIZE)}
LARGER = {"pixel_values": numbers(3, 64, 64)}
CLASSIFIED = {**IMAGE, "labels": one_of(3)}
LARGER_CLASSIFIED = {**LARGER, "labels": one_of(3)}
FILM = {"pixel_values": numbers(4, 3, SIZE, SIZE), "labels": one_of(3)}
SEGMENTED = {**LARGER, "labels": integers(64, 64, below=3)}


def boxes(most: int = 3, masks: int = 0) -> Column:
    """Objects of an image: one to ``most`` classes and boxes (centre, width, height; relative), perhaps with masks."""

    def make(generator: torch.Generator, row: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        count = int(torch.randint(1, most + 1, (), generator=generator))
        centres = 0.3 + 0.4 * torch.rand(count, 2, generator=generator)
        sizes = 0.1 + 0.4 * torch.rand(count, 2, generator=generator)
        objects = {
            "class_labels": torch.randint(3, (count,), generator=generator),
            "boxes": torch.cat([centres, sizes], dim=1),
        }
        if masks:
            objects["masks"] = torch.randint(2, (count, masks, masks), generator=generator).float()
        return objects

    return make


def masks(size: int) -> Column:
    """A mask for each object of an image, whose classes come next."""

    def make(generator: torch.Generator, row: Mapping[str, Any]) -> torch.Tensor:
        count = int(torch.randint(1, 4, (), generator=generator))
        return torch.randint(2, (count, size, size), generator=generator).float()

    return make


def class_of_each(name: str) -> Column:
    """A class for each item of another column."""
    return lambda generator, row: torch.randint(3, (len(row[name]),), generator=generator)


DETECTED = {**LARGER, "labels": boxes()}
OBJECTS = {**LARGER, "mask_labels": masks(64), "class_labels": class_of_each("mask_labels")}
LISTED = in_lists("labels")
MASKS_LISTED = in_lists("mask_labels", "class_labels")

CLASSIFIERS = (
    Architecture("ViT", "ViTForImageClassification", CLASSIFIED, VIT, fast=True),
    Architecture("DeiT", "DeiTForImageClassification", CLASSIFIED, VIT),
    Architecture("BEiT", "BeitForImageClassification", CLASSIFIED, VIT),
    Architecture("DINOv2", "Dinov2ForImageClassification", CLASSIFIED, VIT),
    Architecture("ViT-MSN", "ViTMSNForImageClassification", CLASSIFIED, VIT),
    Architecture("I-JEPA", "IJepaForImageClassification", CLASSIFIED, VIT),
    Architecture("Swin", "SwinForImageClassification", CLASSIFIED, SWIN),
    Architecture("Swin v2", "Swinv2ForImageClassification", CLASSIFIED, SWIN),
    Architecture(
        "ConvNeXT",
        "ConvNextForImageClassification",
        CLASSIFIED,
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "num_labels": 3},
    ),
    Architecture(
        "ConvNeXT v2",
        "ConvNextV2ForImageClassification",
        CLASSIFIED,
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "num_labels": 3},
    ),
    Architecture("ResNet", "ResNetForImageClassification", LARGER_CLASSIFIED, RESNET),
    Architecture("RegNet", "RegNetForImageClassification", LARGER_CLASSIFIED, {**RESNET, "groups_width": 4}),
    Architecture(
        "BiT",
        "BitForImageClassification",
        LARGER_CLASSIFIED,
        {**RESNET, "embedding_size": 8, "hidden_sizes": [16, 16, 16, 16], "num_groups": 4},
    ),
    Architecture(
        "MobileNet v1",
        "MobileNetV1ForImageClassification",
        CLASSIFIED,
        {"image_size": SIZE, "depth_multiplier": 0.1, "min_depth": 4, "num_labels": 3},
    ),
    Architecture(
        "MobileNet v2",
        "MobileNetV2ForImageClassification",
        CLASSIFIED,
        {
            "image_size": SIZE,
            "depth_multiplier": 0.1,
            "min_depth": 4,
            "depth_divisible_by": 4,
            "num_labels": 3,
        },
    ),
    Architecture(
        "MobileViT",
        "MobileViTForImageClassification",
        LARGER_CLASSIFIED,
        {
            "image_size": 64,
            "hidden_sizes": [16, 16, 16],
            "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16],
            "num_labels": 3,
        },
    ),
    Architecture(
        "LeViT",
        "LevitForImageClassification",
        LARGER_CLASSIFIED,
        {
            "image_size": 64,
            "hidden_sizes": [16, 16, 16],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [4, 4, 4],
            "num_labels": 3,
        },
    ),
    Architecture(
        "PoolFormer",
        "PoolFormerForImageClassification",
        LARGER_CLASSIFIED,
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3},
    ),
    Architecture(
        "PVT",
        "PvtForImageClassification",
        LARGER_CLASSIFIED,
        {
            "image_size": 64,
            "hidden_sizes": [8, 16, 16, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
            "num_labels": 3,
        },
    ),
    Architecture(
        "CvT",
        "CvtForImageClassification",
        LARGER_CLASSIFIED,
        {"embed_dim": [8, 16, 16], "num_heads": [1, 2, 2], "depth": [1, 2, 3], "num_labels": 3},
    ),
    Architecture(
        "EfficientNet",
        "EfficientNetForImageClassification",
        CLASSIFIED,
        {
            "image_size": SIZE,
            "width_coefficient": 0.3,
            "depth_coefficient": 0.3,
            "hidden_dim": 384,
            "num_labels": 3,
        },
    ),
    Architecture(
        "FocalNet",
        "FocalNetForImageClassification",
        CLASSIFIED,
        {
            "image_size": SIZE,
            "embed_dim": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "focal_levels": [1, 1],
            "focal_windows": [3, 3],
            "num_labels": 3,
        },
    ),
    Architecture(
        "Hiera",
        "HieraForImageClassification",
        LARGER_CLASSIFIED,
        {
            "image_size": [64, 64],
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "num_query_pool": 1,
            "masked_unit_size": [4, 4],
            "masked_unit_attention": [True, False],
            "num_labels": 3,
        },
    ),
    Architecture(
        "SwiftFormer",
        "SwiftFormerForImageClassification",
        LARGER_CLASSIFIED,
        {"image_size": 64, "embed_dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3},
    ),
    Architecture(
        "ImageGPT",
        "ImageGPTForImageClassification",
        {"input_ids": integers(16, below=20), "labels": one_of(3)},
        {"vocab_size": 21, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4, "num_labels": 3},
    ),
    Architecture("VideoMAE", "VideoMAEForVideoClassification", FILM, {**VIT, "num_frames": 4}),
    Architecture("TimeSformer", "TimesformerForVideoClassification", FILM, {**VIT, "num_frames": 4}),
    Architecture(
        "ViViT", "VivitForVideoClassification", FILM, {**VIT, "num_frames": 4, "tubelet_size": [2, 8, 8]}
    ),
    Architecture(
        "ViT-MAE",
        "ViTMAEForPreTraining",
        IMAGE,
        {
            **TRANSFORMER,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 20,
        },
        arguments={"label_names": ["pixel_values"]},
        differs={"predictions": DRAWN},
    ),
    Architecture(
        "ViT (masked image)",
        "ViTForMaskedImageModeling",
        {**IMAGE, "bool_masked_pos": lambda g, row: torch.rand(16, generator=g) < 0.5},
        {**TRANSFORMER, "encoder_stride": 8},
        arguments={"label_names": ["bool_masked_pos"]},
    ),
)

DETECTORS = (
    Architecture(
        "DETR",
        "DetrForObjectDetection",
        DETECTED,
        DETR,
        LISTED,
        fast=True,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "DETR (auxiliary losses)",
        "DetrForObjectDetection",
        DETECTED,
        {**DETR, "auxiliary_loss": True},
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "Conditional DETR",
        "ConditionalDetrForObjectDetection",
        DETECTED,
        DETR,
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "Deformable DETR",
        "DeformableDetrForObjectDetection",
        DETECTED,
        {**DETR, "backbone_config": BACKBONE, "num_feature_levels": 3, "disable_custom_kernels": True},
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "Table Transformer",
        "TableTransformerForObjectDetection",
        DETECTED,
        DETR,
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "YOLOS",
        "YolosForObjectDetection",
        DETECTED,
        {**VIT, "image_size": [64, 64], "num_detection_tokens": 6},
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "RT-DETR",
        "RTDetrForObjectDetection",
        DETECTED,
        {
            **RT_DETR,
            "backbone_config": {
                "model_type": "rt_detr_resnet",
                **RESNET,
                "out_features": ["stage2", "stage3", "stage4"],
            },
        },
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "RT-DETR v2",
        "RTDetrV2ForObjectDetection",
        DETECTED,
        {
            **RT_DETR,
            "backbone_config": {
                "model_type": "rt_detr_resnet",
                **RESNET,
                "out_features": ["stage2", "stage3", "stage4"],
            },
        },
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "D-FINE",
        "DFineForObjectDetection",
        DETECTED,
        {
            **RT_DETR,
            "backbone_config": {
                "model_type": "hgnet_v2",
                "stem_channels": [3, 8, 8],
                "stage_in_channels": [8, 8, 12, 16],
                "stage_mid_channels": [4, 4, 4, 4],
                "stage_out_channels": [8, 12, 16, 20],
                "stage_num_blocks": [1, 1, 1, 1],
                "stage_downsample": [False, True, True, True],
                "stage_light_block": [False, False, True, True],
                "stage_kernel_size": [3, 3, 3, 3],
                "stage_numb_of_layers": [1, 1, 1, 1],
                "embedding_size": 8,
                "hidden_sizes": [8, 12, 16, 20],
                "depths": [1, 1, 1, 1],
                "out_features": ["stage2", "stage3", "stage4"],
            },
            "hidden_expansion": 1.0,
        },
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
)

SEGMENTERS = (
    Architecture("SegFormer", "SegformerForSemanticSegmentation", SEGMENTED, PYRAMID),
    Architecture(
        "BEiT (segmentation)",
        "BeitForSemanticSegmentation",
        SEGMENTED,
        {
            **VIT,
            "image_size": 64,
            "num_hidden_layers": 4,
            "out_indices": [1, 2, 3, 4],
            "pool_scales": [1, 2],
            "auxiliary_channels": 8,
        },
    ),
    Architecture(
        "DPT",
        "DPTForSemanticSegmentation",
        SEGMENTED,
        {
            **VIT,
            "image_size": 64,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 8, 16, 16],
            "fusion_hidden_size": 16,
        },
    ),
    Architecture(
        "MobileViT (segmentation)",
        "MobileViTForSemanticSegmentation",
        SEGMENTED,
        {
            "image_size": 64,
            "hidden_sizes": [16, 16, 16],
            "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16],
            "aspp_out_channels": 16,
            "num_labels": 3,
        },
    ),
    Architecture(
        "MobileNet v2 (segmentation)",
        "MobileNetV2ForSemanticSegmentation",
        SEGMENTED,
        {"image_size": 64, "depth_multiplier": 0.1, "min_depth": 4, "depth_divisible_by": 4, "num_labels": 3},
    ),
    Architecture(
        "Data2Vec-vision (segmentation)",
        "Data2VecVisionForSemanticSegmentation",
        SEGMENTED,
        {
            **VIT,
            "image_size": 64,
            "num_hidden_layers": 4,
            "out_indices": [0, 1, 2, 3],
            "pool_scales": [1, 2],
            "auxiliary_channels": 8,
        },
    ),
    Architecture(
        "UPerNet",
        "UperNetForSemanticSegmentation",
        SEGMENTED,
        {
            "backbone_config": {
                "model_type": "convnext",
                "hidden_sizes": [8, 8, 16, 16],
                "depths": [1, 1, 1, 1],
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            "hidden_size": 16,
            "pool_scales": [1, 2],
            "auxiliary_in_channels": 16,
            "auxiliary_channels": 8,
            "num_labels": 3,
        },
    ),
    Architecture(
        "DETR (segmentation)",
        "DetrForSegmentation",
        {**LARGER, "labels": boxes(masks=64)},
        {
            **DETR,
            "encoder_attention_heads": 8,
            "decoder_attention_heads": 8,
            "backbone_config": {**BACKBONE, "out_features": ["stage1", "stage2", "stage3", "stage4"]},
        },
        LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "MaskFormer",
        "MaskFormerForInstanceSegmentation",
        OBJECTS,
        {
            "backbone_config": {
                "model_type": "swin",
                **STAGES,
                "image_size": 64,
                "patch_size": 4,
                "window_size": 4,
                "depths": [1, 1, 1, 1],
                "num_heads": [2, 2, 2, 2],
                "embed_dim": 8,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            "decoder_config": {
                "model_type": "detr",
                **{k: v for k, v in DETR.items() if k != "backbone_config"},
            },
            "fpn_feature_size": 32,
            "mask_feature_size": 32,
            "num_labels": 3,
        },
        MASKS_LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "Mask2Former",
        "Mask2FormerForUniversalSegmentation",
        OBJECTS,
        {
            "backbone_config": {
                "model_type": "swin",
                "image_size": 64,
                "patch_size": 4,
                "window_size": 4,
                "depths": [1, 1, 1, 1],
                "num_heads": [2, 2, 2, 2],
                "embed_dim": 8,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            "feature_size": 32,
            "mask_feature_size": 32,
            "hidden_dim": 32,
            "encoder_feedforward_dim": 40,
            "dim_feedforward": 40,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "num_attention_heads": 4,
            "num_queries": 6,
            "train_num_points": 32,
            "num_labels": 3,
        },
        MASKS_LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "EoMT",
        "EomtForUniversalSegmentation",
        OBJECTS,
        {
            **VIT,
            "image_size": 64,
            "num_queries": 6,
            "num_blocks": 1,
            "num_upscale_blocks": 1,
            "train_num_points": 32,
        },
        MASKS_LISTED,
        differs={"predictions": LABELS_IN_LISTS},
    ),
    Architecture(
        "OneFormer",
        "OneFormerForUniversalSegmentation",
        {**OBJECTS, "task_inputs": integers(8, below=20), "text_inputs": integers(6, 8, below=20)},
        {
            "backbone_config": {
                "model_type": "swin",
                "image_size": 64,
                "patch_size": 4,
                "window_size": 4,
                "depths": [1, 1, 1, 1],
                "num_heads": [2, 2, 2, 2],
                "embed_dim": 8,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            "num_queries": 8,
            "conv_dim": 64,
            "mask_dim": 64,
            "hidden_dim": 64,
            "encoder_feedforward_dim": 40,
            "dim_feedforward": 40,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "query_dec_layers": 1,
            "num_attention_heads": 4,
            "train_num_points": 32,
            "task_seq_len": 8,
            "text_encoder_width": 64,
            "text_encoder_context_length": 8,
            "text_encoder_num_layers": 1,
            "text_encoder_vocab_size": 30,
            "text_encoder_n_ctx": 2,
            "is_training": True,
            "num_labels": 3,
        },
        MASKS_LISTED,
        differs={"training": BROADCAST, "evaluation": BROADCAST, "predictions": BROADCAST},
    ),
    Architecture(
        "GLPN (depth)",
        "GLPNForDepthEstimation",
        {**LARGER, "labels": lambda g, row: 1 + torch.rand(64, 64, generator=g)},
        {**PYRAMID, "decoder_hidden_size": 8},
        differs={"training": IN_PLACE, "evaluation": IN_PLACE, "predictions": IN_PLACE},
    ),
)
