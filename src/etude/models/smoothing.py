"""Label smoothing, for models that return logits (https://arxiv.org/abs/1512.00567)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from etude.errors import ModelOutputError


@dataclass
class LabelSmoother:
    """A cross-entropy in which every class gets a share of the target.

    Attributes:
        epsilon: the share that is spread evenly over all classes.
        ignore_index: labels that count for nothing.
    """

    epsilon: float = 0.1
    ignore_index: int = -100

    def __call__(
        self,
        model_output: Any,
        labels: torch.Tensor,
        shift_labels: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The smoothed loss.

        Args:
            model_output: with "logits", or a tuple that begins with them; shape [..., classes].
            labels: class indices, shape [...].
            shift_labels: compare each label with the logits of the position before it.
            num_items_in_batch: what the sum is divided by; the number of valid labels if not given.

        Raises:
            ModelOutputError: there are no logits.
        """
        logits = _logits(model_output)
        if shift_labels:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        labels = labels.reshape(logits.shape[:-1])
        surprise = -torch.log_softmax(logits, dim=-1)
        valid = labels != self.ignore_index
        # an ignored label is no index: any class will do in its place
        of_label = surprise.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        wide = torch.promote_types(surprise.dtype, torch.float32)  # a sum of float16 would overflow
        of_any = surprise.sum(dim=-1, dtype=wide) / logits.shape[-1]
        total = torch.stack([part.masked_fill(~valid, 0.0).sum() for part in (of_label, of_any)])
        items = valid.sum() if num_items_in_batch is None else num_items_in_batch
        if isinstance(items, torch.Tensor):
            items = items.to(logits.device)
        mean = total / items
        return (1 - self.epsilon) * mean[0] + self.epsilon * mean[1]


def _logits(model_output: Any) -> torch.Tensor:
    logits = model_output
    if isinstance(model_output, Mapping):
        if "logits" not in model_output:
            raise ModelOutputError(
                f"`label_smoothing_factor` needs the model to return logits; it returns {', '.join(model_output)}."
            )
        logits = model_output["logits"]
    elif isinstance(model_output, (tuple, list)):
        logits = model_output[0]
    assert isinstance(logits, torch.Tensor)
    return logits
