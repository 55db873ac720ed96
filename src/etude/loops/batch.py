"""What is kept of one evaluated batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Batch:
    """One batch: arrays on the host, or tensors while its metrics are being computed.

    Attributes:
        size: number of samples.
        loss: their mean loss; None without labels.
        predictions, labels, inputs: None where there are none, or where they are not kept.
    """

    size: int
    loss: float | None
    predictions: Any
    labels: Any
    inputs: Any
