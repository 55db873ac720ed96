"""The special tokens of a model's configuration, made those of its tokenizer."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from etude.optional import is_instance_of

logger = logging.getLogger(__name__)

TOKENS = ("eos_token_id", "bos_token_id", "pad_token_id")


def align_special_tokens(model: nn.Module, processing_class: Any) -> dict[str, int]:
    """Writes the tokenizer's end, beginning and padding tokens into the model's configurations, and tells what changed.

    A tokenizer that got a new token for fine-tuning, such as the end of a turn, would otherwise generate without it.
    Tokens that the tokenizer does not define are left as they are.

    Returns:
        The tokens that changed.
    """
    if not is_instance_of(processing_class, "transformers", "PreTrainedTokenizerBase", "ProcessorMixin"):
        return {}
    config = getattr(model, "config", None)
    if config is None:
        return {}
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    generation = getattr(model, "generation_config", None)
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    changed: dict[str, int] = {}
    for name in TOKENS:
        token = getattr(tokenizer, name, None)
        configs = [c for c in (text_config, generation) if c is not None]
        if token is None or all(token in _as_list(getattr(c, name, None)) for c in configs):
            continue
        changed[name] = token
        several = name == "eos_token_id"  # generation stops at any of them, so none is taken away
        for c in configs:
            held = getattr(c, name, None)
            keeps = several and (isinstance(held, list) or c is generation)
            setattr(c, name, [token, *(t for t in _as_list(held) if t != token)] if keeps else token)
    if changed:
        logger.warning("The model's configuration now has the tokenizer's special tokens: %s.", changed)
    return changed


def _as_list(held: Any) -> list[int]:
    if held is None:
        return []
    return held if isinstance(held, list) else [held]
