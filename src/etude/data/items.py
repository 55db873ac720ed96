"""How many items a batch's loss is the mean of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from etude.core import nested

IGNORED = -100  # the label that PyTorch's losses leave out


def label_items(batch: Any, shifted: bool) -> int | None:
    """Number of labels in `batch["labels"]` that count, as models normalise by it; None where that has no meaning.

    Args:
        batch: a micro-batch, on any device; counting labels on the host does not wait for the device.
        shifted: whether the model predicts each label from what is before it, so that the first one never counts.
    """
    if not isinstance(batch, Mapping) or "labels" not in batch:
        return None
    if "shift_labels" in batch:
        return _count(batch["shift_labels"])
    labels = batch["labels"]
    if not isinstance(labels, (torch.Tensor, np.ndarray)):  # boxes and masks of detection models, say
        return None
    return _count(labels[..., 1:] if shifted and labels.ndim > 0 else labels)


def valid_items(batch: Any, label_names: Sequence[str], shifted: bool) -> int:
    """Number of items that the mean loss of `batch` was taken over, as well as can be told from outside.

    Whole-number labels: those that are not -100. Other labels, or none: the samples.
    """
    labels = [batch[name] for name in label_names if name in batch] if isinstance(batch, Mapping) else []
    if labels and all(_is_whole(label) for label in labels):
        if shifted and len(labels) == 1 and (counted := label_items(batch, shifted)) is not None:
            return counted
        return sum(_count(label) for label in labels)
    return nested.batch_size(batch) or 1


def _is_whole(label: Any) -> bool:
    if isinstance(label, torch.Tensor):
        return not label.is_floating_point() and not label.is_complex()
    return isinstance(label, np.ndarray) and np.issubdtype(label.dtype, np.integer)


def _count(label: torch.Tensor | np.ndarray) -> int:
    return int((label != IGNORED).sum())
