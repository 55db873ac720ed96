"""Permutation language modelling, as XLNet is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from etude.data.collators.base import DataCollatorMixin, joined_ids, special_tokens, tensors, token_ids
from etude.data.collators.draws import NumpyDraws, TorchDraws
from etude.data.items import IGNORED
from etude.errors import ConfigurationError, DataError


@dataclass
class DataCollatorForPermutationLanguageModeling(DataCollatorMixin):
    """Hides spans of tokens and draws an order in which they are predicted (https://arxiv.org/abs/1906.08237).

    A batch has `input_ids` and `labels` of shape [samples, length], and `perm_mask` and `target_mapping` of shape
    [samples, length, length]: `perm_mask[b, i, j]` is 1 where token i must not see token j.

    Attributes:
        tokenizer: knows the mask token; its pad token fills up shorter samples.
        plm_probability: share of the tokens that are hidden: a span of n tokens lies in a context of n / share.
        max_span_length: longest span.
        return_tensors: "pt" or "np".
    """

    tokenizer: Any
    plm_probability: float = 1 / 6
    max_span_length: int = 5
    return_tensors: str = "pt"

    def torch_call(self, examples: list[Any]) -> dict[str, Any]:
        return self._batch(joined_ids(token_ids(examples), self.tokenizer), "pt")

    def numpy_call(self, examples: list[Any]) -> dict[str, Any]:
        return self._batch(joined_ids(token_ids(examples), self.tokenizer), "np")

    def torch_mask_tokens(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(inputs, perm_mask, target_mapping, labels) of token ids of shape [samples, length].

        Raises:
            ConfigurationError: the tokenizer has no mask token.
            DataError: the length is odd.
        """
        return tuple(torch.from_numpy(array) for array in self._permuted(inputs.numpy(), TorchDraws()))

    def numpy_mask_tokens(self, inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """As `torch_mask_tokens`, for arrays; draws from NumPy's generator."""
        return self._permuted(inputs, NumpyDraws())

    def _batch(self, ids: np.ndarray, return_tensors: str) -> dict[str, Any]:
        mask: Any = self.torch_mask_tokens if return_tensors == "pt" else self.numpy_mask_tokens
        inputs, perm_mask, target_mapping, labels = mask(tensors(ids, return_tensors))
        return {
            "input_ids": inputs,
            "perm_mask": perm_mask,
            "target_mapping": target_mapping,
            "labels": labels,
        }

    def _permuted(self, ids: np.ndarray, draws: TorchDraws | NumpyDraws) -> tuple[np.ndarray, ...]:
        self._check(ids)
        count, length = ids.shape
        special = special_tokens(self.tokenizer, ids)
        if self.tokenizer.pad_token_id is not None:
            special |= ids == self.tokenizer.pad_token_id
        hidden = np.stack([self._spans(length, draws) for _ in range(count)]) & ~special
        order = np.stack([_order(length, draws) for _ in range(count)])
        order[~hidden & ~special] = -1  # what is neither hidden nor special is seen from everywhere
        perm_mask = (order[:, :, None] <= order[:, None, :]) & hidden[:, None, :]
        targets = np.broadcast_to(np.eye(length, dtype=np.float32), (count, length, length)).copy()
        inputs = np.where(hidden, self.tokenizer.mask_token_id, ids)
        return inputs, perm_mask.astype(np.float32), targets, np.where(hidden, ids, IGNORED)

    def _check(self, ids: np.ndarray) -> None:
        if self.tokenizer.mask_token is None:
            raise ConfigurationError(
                f"{type(self.tokenizer).__name__} does not have a mask token, which permutation language modelling "
                "needs: add one."
            )
        if ids.shape[1] % 2 != 0:
            raise DataError(
                f"Permutation language modelling needs samples of even length, these have {ids.shape[1]} tokens: the "
                "order is drawn for one half, the other is what the model remembers."
            )

    def _spans(self, length: int, draws: TorchDraws | NumpyDraws) -> np.ndarray:
        """Which tokens of one sample are hidden: a span of 1 to `max_span_length` in each context."""
        hidden = np.zeros(length, dtype=bool)
        begin = 0
        while begin < length:
            span = 1 + draws.below(self.max_span_length)
            context = int(span / self.plm_probability)
            start = begin + draws.below(context - span + 1)
            hidden[start : start + span] = True
            begin += context
        return hidden


def _order(length: int, draws: TorchDraws | NumpyDraws) -> np.ndarray:
    """When each token's turn comes: both halves of a sample in the same random order, one after the other."""
    half = length // 2
    permutation = draws.permutation(half)
    return np.concatenate([permutation, permutation + half])
