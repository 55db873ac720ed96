"""Run time and throughput, as they are logged."""

from __future__ import annotations

import time


def speed_metrics(
    split: str,
    start_time: float,
    num_samples: float | None = None,
    num_steps: int | None = None,
    num_tokens: float | None = None,
) -> dict[str, float]:
    """Seconds since `start_time` (of `time.time()`), and samples, steps and tokens for each of them.

    Returns:
        `{split}_runtime` and, for what is given, `{split}_samples_per_second` and so on.
    """
    runtime = time.time() - start_time
    result = {f"{split}_runtime": round(runtime, 4)}
    if runtime == 0:
        return result
    for name, amount in (("samples", num_samples), ("steps", num_steps), ("tokens", num_tokens)):
        if amount is not None:
            result[f"{split}_{name}_per_second"] = round(amount / runtime, 3)
    return result
