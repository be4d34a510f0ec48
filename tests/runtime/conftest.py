"""A model and adapters of all kinds for it."""

from __future__ import annotations

from typing import Any

import pytest

import adaptr
import tiny
from runtime.pools import adapters


@pytest.fixture
def model() -> Any:
    return tiny.model("llama")


@pytest.fixture
def made(model: Any) -> dict[str, adaptr.Adapter]:
    return adapters(model)
