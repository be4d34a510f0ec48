"""What every test gets."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """torch's own generator starts at the same place in every test: what fails, fails again."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
