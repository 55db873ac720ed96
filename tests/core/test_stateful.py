"""Does every part get its own state back, and is a stranger reported?"""

from __future__ import annotations

from typing import Any

import pytest

from etude.core.progress import Progress
from etude.core.stateful import Stateful, StatefulRegistry
from etude.errors import CheckpointError


class Part:
    """A part with one value."""

    def __init__(self, value: int) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict["value"]


def registry_of(**values: int) -> tuple[StatefulRegistry, dict[str, Part]]:
    registry, parts = StatefulRegistry(), {name: Part(value) for name, value in values.items()}
    for name, part in parts.items():
        registry.register(name, part)
    return registry, parts


def test_parts_get_their_states_back() -> None:
    saved = registry_of(a=1, b=2)[0].state_dict()
    registry, parts = registry_of(b=0, a=0)
    registry.load_state_dict(saved)
    assert {name: part.value for name, part in parts.items()} == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("here", "message"), [({"a": 0, "c": 0}, r"missing: \['c'\]"), ({}, r"left over: \['a'\]")]
)
def test_a_missing_or_extra_part_is_an_error_before_anything_is_restored(
    here: dict[str, int], message: str
) -> None:
    registry, parts = registry_of(**here)
    with pytest.raises(CheckpointError, match=message):
        registry.load_state_dict({"a": {"value": 1}})
    assert all(part.value == 0 for part in parts.values())


def test_the_last_part_of_a_name_counts() -> None:
    registry, _ = registry_of(a=1)
    registry.register("a", Part(5))
    assert registry.state_dict() == {"a": {"value": 5}}


def test_parts_are_recognised_by_their_methods() -> None:
    import torch

    assert isinstance(Part(1), Stateful)
    assert isinstance(Progress(torch.device("cpu")), Stateful)
    assert not isinstance(object(), Stateful)
