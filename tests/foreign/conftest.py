"""What the tests of foreign formats share: published adapters beside the repository, and PEFT, slow to import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("ADAPTR_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the published adapters are not here: {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def peft() -> Any:
    return pytest.importorskip("peft")
