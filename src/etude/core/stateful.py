"""Parts whose state must survive a kill, and the registry that collects them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from etude.errors import CheckpointError


@runtime_checkable
class Stateful(Protocol):
    """A part of a run that a checkpoint has to carry."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on as if the run had never stopped."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that state back."""
        ...


class StatefulRegistry:
    """The named parts of a run. Saving asks each for its state; resuming gives each its own back, once."""

    def __init__(self) -> None:
        self._parts: dict[str, Stateful] = {}

    def register(self, name: str, part: Stateful) -> None:
        """Adds a part, in place of an earlier one of the same name."""
        self._parts[name] = part

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The state of every part, by name."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, states: dict[str, dict[str, Any]]) -> None:
        """Restores every part.

        Raises:
            CheckpointError: a part of this run has no state in the checkpoint, or the other way round.
        """
        missing = sorted(self._parts.keys() - states.keys())
        extra = sorted(states.keys() - self._parts.keys())
        if missing or extra:
            raise CheckpointError(
                f"The checkpoint's state does not fit this run (missing: {missing or 'none'}, left over: "
                f"{extra or 'none'}). It was written by another version or for other settings: train from the "
                "weights alone by loading them into the model, or use the version that wrote it."
            )
        for name, part in self._parts.items():
            part.load_state_dict(states[name])
