"""How many tokens a batch has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

logger = logging.getLogger(__name__)


class TokenCounter:
    """Counts the input tokens of batches.

    Args:
        main_input: the key of the tokens.
        with_padding: count padding too.
        padding_id: the padding token, for batches without an attention mask.
    """

    def __init__(self, main_input: str, with_padding: bool, padding_id: int | None) -> None:
        self._main_input = main_input
        self._with_padding = with_padding
        self._padding_id = padding_id
        self._told: set[str] = set()

    def count(self, batch: Any) -> int | torch.Tensor:
        """Tokens of `batch`; a tensor where they are counted on a device, which is not waited for."""
        if not isinstance(batch, Mapping) or self._main_input not in batch:
            self._tell(
                f"Input tokens are not counted: there is no {self._main_input!r} in the batch. If another input "
                "counts, give the model's class an attribute `main_input_name`."
            )
            return 0
        tokens = batch[self._main_input]
        if self._with_padding:
            return int(tokens.numel())
        if "attention_mask" in batch:
            total = batch["attention_mask"].sum()
        elif self._padding_id is not None:
            total = (tokens != self._padding_id).sum()
        else:
            self._tell(
                "Padding cannot be told from tokens (no attention mask, no padding token): all are counted."
            )
            return int(tokens.numel())
        return int(total) if total.device.type == "cpu" else total

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.warning(message)
