"""Language modelling: tokens are hidden and predicted, or each predicts the next."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from etude.core.rng import batch_seed, seed_for
from etude.data.collators.base import (
    DataCollatorMixin,
    joined_ids,
    quietly_pad,
    special_tokens,
    tensors,
    without,
)
from etude.data.collators.draws import NumpyDraws, TorchDraws
from etude.data.collators.words import Words, padded_offsets, words_from_offsets
from etude.data.items import IGNORED
from etude.errors import ConfigurationError


@dataclass
class DataCollatorForLanguageModeling(DataCollatorMixin):
    """Makes the labels of a language model.

    Masked (`mlm=True`): some tokens are chosen; labels are -100 elsewhere. Of the chosen ones, `mask_replace_prob`
    become the mask token, `random_replace_prob` a random token, and the rest stay (https://arxiv.org/abs/1810.04805).
    Special tokens are never chosen; samples with a `special_tokens_mask` save looking for them.
    Causal (`mlm=False`): labels are the inputs, -100 where they are the pad token.

    Attributes:
        tokenizer: what pads, and knows the mask token.
        mlm: masked, rather than causal.
        whole_word_mask: choose whole words; needs the tokenizer's `offset_mapping` in the samples, and always replaces
            by the mask token.
        mlm_probability: share of the tokens that are chosen.
        mask_replace_prob: share of the chosen that become the mask token.
        random_replace_prob: share of the chosen that become a random token.
        pad_to_multiple_of: rounds lengths up.
        return_tensors: "pt" or "np".
        seed: seed of a generator of the collator's own; the global one is drawn from if not given.

    Raises:
        ConfigurationError: probabilities that are none, or a tokenizer without a mask token.
    """

    tokenizer: Any
    mlm: bool = True
    whole_word_mask: bool = False
    mlm_probability: float | None = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    seed: int | None = None

    def __post_init__(self) -> None:
        self._check()
        if self.whole_word_mask:
            self._replace_whole_words()
        self.mask_replace_prob = float(self.mask_replace_prob)
        self.random_replace_prob = float(self.random_replace_prob)
        self.generator: Any = None

    def _check(self) -> None:
        if self.mlm and self.tokenizer.mask_token is None:
            raise ConfigurationError(
                f"{type(self.tokenizer).__name__} does not have a mask token, which masked language modelling needs; "
                "`mlm=False` trains a causal language model."
            )
        if self.whole_word_mask and not self.mlm:
            raise ConfigurationError("`whole_word_mask=True` needs `mlm=True`.")
        names = ("mlm_probability",) if self.mlm else ()
        for name in (*names, "mask_replace_prob", "random_replace_prob"):
            value = getattr(self, name)
            if value is None or not 0 <= value <= 1:
                raise ConfigurationError(f"`{name}` should be between 0 and 1, it is {value!r}.")
        if self.mask_replace_prob + self.random_replace_prob > 1:
            raise ConfigurationError(
                f"`mask_replace_prob={self.mask_replace_prob}` and `random_replace_prob={self.random_replace_prob}` "
                "should not add up to more than 1."
            )

    def _replace_whole_words(self) -> None:
        if self.mask_replace_prob < 1:
            warnings.warn(
                "`whole_word_mask=True` replaces all chosen words by the mask token: `mask_replace_prob` is set to 1.",
                stacklevel=4,
            )
            self.mask_replace_prob, self.random_replace_prob = 1.0, 0.0

    def torch_call(self, examples: list[Any]) -> Any:
        return self._batch(examples, "pt")

    def numpy_call(self, examples: list[Any]) -> Any:
        return self._batch(examples, "np")

    def torch_mask_tokens(
        self, inputs: torch.Tensor, special_tokens_mask: Any = None, offset_mapping: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs with tokens hidden, and the labels; both int64 of shape [samples, length].

        Args:
            inputs: token ids, shape [samples, length].
            special_tokens_mask: 1 where a token must not be chosen; asked of the tokenizer if not given.
            offset_mapping: first and last character of each token, shape [samples, length, 2]; for whole words.
        """
        draws = TorchDraws(self.generator)
        ids, labels = self._masked(inputs.numpy(), special_tokens_mask, offset_mapping, draws)
        return torch.from_numpy(ids), torch.from_numpy(labels)

    def numpy_mask_tokens(
        self, inputs: np.ndarray, special_tokens_mask: Any = None, offset_mapping: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `torch_mask_tokens`, for arrays; draws from NumPy's generator."""
        return self._masked(inputs, special_tokens_mask, offset_mapping, NumpyDraws(self.generator))

    def create_rng(self, return_tensors: str | None = None) -> None:
        """Makes the generator of this process from `seed`: loading processes get one each."""
        assert self.seed is not None
        worker = get_worker_info()
        self.generator = self.get_generator(self.seed + (0 if worker is None else worker.id), return_tensors)

    def get_generator(self, seed: int, return_tensors: str | None = None) -> Any:
        """A generator of PyTorch or of NumPy, as `return_tensors` draws from."""
        if (return_tensors or self.return_tensors) == "pt":
            return torch.Generator().manual_seed(seed)
        return np.random.default_rng(seed)

    def get_rng_state(self) -> Any:
        """The state of the generator, for checkpoints; None where it has not drawn yet."""
        if isinstance(self.generator, torch.Generator):
            return self.generator.get_state()
        return None if self.generator is None else self.generator.bit_generator.state

    def set_rng_state(self, state: Any) -> None:
        """Puts the generator back into that state."""
        self.generator = None
        if isinstance(state, torch.Tensor):
            self.generator = torch.Generator().set_state(state)
        elif state is not None:
            self.generator = np.random.default_rng()
            self.generator.bit_generator.state = state

    def _choose_generator(self, seed: int, return_tensors: str) -> None:
        """The generator of this process; in Etude's loading processes one for each batch, whoever loads it."""
        batch = batch_seed()
        is_other_kind = isinstance(self.generator, torch.Generator) != (return_tensors == "pt")
        if batch is not None:
            self.generator = self.get_generator(seed_for(seed, batch), return_tensors)
        elif self.generator is None or is_other_kind:
            self.create_rng(return_tensors)

    def _batch(self, examples: list[Any], return_tensors: str) -> Any:
        if self.seed is not None:
            self._choose_generator(self.seed, return_tensors)
        batch, offsets = self._padded(examples, return_tensors)
        special = batch.pop("special_tokens_mask", None)
        if not self.mlm:
            batch["labels"] = self._causal_labels(batch["input_ids"])
            return batch
        mask = self.torch_mask_tokens if return_tensors == "pt" else self.numpy_mask_tokens
        batch["input_ids"], batch["labels"] = mask(
            batch["input_ids"], special_tokens_mask=special, offset_mapping=offsets
        )
        return batch

    def _padded(self, examples: list[Any], return_tensors: str) -> tuple[Any, Any]:
        """The padded batch, and the padded offsets of its tokens where the samples have them."""
        if not isinstance(examples[0], Mapping):
            ids = joined_ids(examples, self.tokenizer, self.pad_to_multiple_of)
            return {"input_ids": tensors(ids, return_tensors)}, None
        features = without(examples, "offset_mapping") if "offset_mapping" in examples[0] else examples
        batch = quietly_pad(
            self.tokenizer,
            features,
            return_tensors=return_tensors,
            pad_to_multiple_of=self.pad_to_multiple_of,
        )
        if not self.whole_word_mask or "offset_mapping" not in examples[0]:
            return batch, None
        width, side = batch["input_ids"].shape[1], self.tokenizer.padding_side
        return batch, padded_offsets([row["offset_mapping"] for row in examples], width, side)

    def _causal_labels(self, ids: Any) -> Any:
        labels = ids.clone() if isinstance(ids, torch.Tensor) else ids.copy()
        if self.tokenizer.pad_token_id is not None:
            labels[labels == self.tokenizer.pad_token_id] = IGNORED
        return labels

    def _masked(
        self, ids: np.ndarray, special: Any, offsets: Any, draws: TorchDraws | NumpyDraws
    ) -> tuple[np.ndarray, np.ndarray]:
        """The algorithm, whoever draws. The order of the draws is that of the reference, so that masks are too."""
        special = special_tokens(self.tokenizer, ids) if special is None else np.asarray(special).astype(bool)
        words = self._words(ids, special, offsets) if self.whole_word_mask else None
        candidates = ~special if words is None else words.starts
        chosen = draws.happens(np.where(candidates, self.mlm_probability or 0.0, 0.0))
        if words is not None:
            chosen = words.whole(chosen)
        labels = np.where(chosen, ids, IGNORED)
        hidden = draws.happens(np.full(ids.shape, self.mask_replace_prob)) & chosen
        inputs = np.where(hidden, self.tokenizer.convert_tokens_to_ids(self.tokenizer.mask_token), ids)
        if self.mask_replace_prob < 1 and self.random_replace_prob > 0:
            share = self.random_replace_prob / (1 - self.mask_replace_prob)  # of those that are left
            swapped = draws.happens(np.full(ids.shape, share)) & chosen & ~hidden
            inputs[swapped] = draws.tokens(len(self.tokenizer), swapped)
        return inputs, labels

    def _words(self, ids: np.ndarray, special: np.ndarray, offsets: Any) -> Words:
        return words_from_offsets(offsets, special)
