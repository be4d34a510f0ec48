"""What does not apply to a plugin is skipped with its reason, never passed in silence."""

from __future__ import annotations

from typing import NoReturn


def skip(reason: str) -> NoReturn:
    """The test that asks is skipped."""
    import pytest

    pytest.skip(reason)
