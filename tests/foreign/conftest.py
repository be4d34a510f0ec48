"""What the tests of foreign formats share: PEFT, slow to import."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def peft() -> Any:
    return pytest.importorskip("peft")
