"""A learning rate of its own for a part of the model: by pattern of the name, or falling with the depth."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from etude.errors import ConfigurationError

# "encoder.layer.3.attention.weight": the layers are "encoder.layer", this is number 3; the outermost number counts.
NUMBERED = re.compile(r"^((?:.*?\.)?(?:layers?|h|blocks?))\.(\d+)\.")


def learning_rates(
    names: Sequence[str], base: float, patterns: Mapping[str, float] | None, decay: float | None
) -> dict[str, float]:
    """The learning rate of each parameter.

    Args:
        names: names of the trained parameters, in the model's order.
        base: learning rate where nothing else is said.
        patterns: regular expressions looked for in the names, with the learning rate of what they match; the first
            that matches counts, and depth plays no part for it.
        decay: factor of the base for each layer below the top.

    Raises:
        ConfigurationError: a pattern matches nothing, or no layers are found.
    """
    factors = dict.fromkeys(names, 1.0) if decay is None else depth_factors(names, decay)
    rates = {name: base * factors[name] for name in names}
    matched = set()
    for name in names:
        for pattern, rate in (patterns or {}).items():
            if re.search(pattern, name):
                matched.add(pattern)
                rates[name] = rate
                break
    for pattern in patterns or {}:
        if pattern not in matched:
            raise ConfigurationError(_nothing_matches(pattern, names))
    return rates


def _nothing_matches(pattern: str, names: Sequence[str]) -> str:
    if any(re.search(pattern, name) for name in names):
        return f"`learning_rates`: an earlier pattern matches all that {pattern!r} does; put it further to the front."
    parts = sorted({".".join(name.split(".")[: n + 1]) for name in names for n in range(name.count(".") + 1)})
    parts = sorted({*parts, *(part for name in names for part in name.split("."))})
    close = difflib.get_close_matches(pattern, parts, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else f" One of them is {names[0]!r}."
    return f"`learning_rates`: no trained parameter has a name with {pattern!r} in it.{hint}"


def depth_factors(names: Sequence[str], decay: float) -> dict[str, float]:
    """`decay` to the power of how far each parameter lies below the top.

    Parameters after the layers are the head, with factor 1; the topmost layer has `decay`, each one below it one power
    more, and what comes before the layers (embeddings) one more than the lowest. The two stacks of an encoder-decoder
    are counted one by one.

    Raises:
        ConfigurationError: no name has a numbered layer in it.
    """
    stacks: dict[str, int] = {}  # layers: how many
    for match in filter(None, map(NUMBERED.match, names)):
        stacks[match[1]] = max(stacks.get(match[1], 0), int(match[2]) + 1)
    if not stacks:
        raise ConfigurationError(
            "`layerwise_lr_decay` needs numbered layers, such as 'encoder.layer.0.'; this model has no parameter whose "
            f"name has 'layer.N.', 'layers.N.', 'h.N.' or 'block.N.' in it (one of its names: {names[0]!r})."
        )
    return {name: decay**depth for name, depth in _depths(names, stacks).items()}


def _depths(names: Sequence[str], stacks: dict[str, int]) -> dict[str, int]:
    """How far below the top each parameter lies."""
    depths = {}
    waiting = list(stacks)  # stacks whose first layer has not come yet
    for name in names:
        match = NUMBERED.match(name)
        if match:
            depths[name] = stacks[match[1]] - int(match[2])
            waiting = [stack for stack in waiting if stack != match[1]]
            continue
        if len(waiting) == len(stacks):  # before any layer
            depths[name] = max(stacks.values()) + 1
            continue
        around = [stack for stack in waiting if name.startswith(stack.rpartition(".")[0] + ".")]
        depths[name] = stacks[around[0]] + 1 if around else 0
    return depths
