"""A hub of one's own for the tests of this room, and huggingface_hub pointed to it."""

from __future__ import annotations

from collections.abc import Iterator

import huggingface_hub
import pytest
from huggingface_hub import constants

from etude.hub import client
from tests.hub.server import FakeHub, running_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub, which is the one that etude talks to."""
    with running_hub() as running:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            "transformers.utils.hub._hf_api", None
        )  # the reference's own client, made at first use
        huggingface_hub.close_session()
        client.client.cache_clear()
        yield running
        client.client.cache_clear()
        huggingface_hub.close_session()
