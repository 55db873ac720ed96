"""The architectures of transformers that are trained here, by family."""

from __future__ import annotations

from tests.architectures import generation, multimodal, speech, text, vision
from tests.architectures.architecture import Architecture

ZOO: dict[str, tuple[Architecture, ...]] = {
    "text encoder": text.TEXT_ENCODERS,
    "decoder": generation.DECODERS,
    "mixture of experts": generation.EXPERT_MIXTURES,
    "state space, recurrent": generation.STATE_SPACES,
    "encoder-decoder": generation.ENCODER_DECODERS,
    "image and film": vision.CLASSIFIERS,
    "detection": vision.DETECTORS,
    "segmentation, depth": vision.SEGMENTERS,
    "speech and sound": speech.SPEECH,
    "contrastive": multimodal.CONTRASTIVE,
    "vision and language": multimodal.VISION_LANGUAGE,
    "time series": multimodal.TIME_SERIES,
}
EVERY = [(family, architecture) for family, members in ZOO.items() for architecture in members]
