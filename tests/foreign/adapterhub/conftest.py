"""The bases of AdapterHub's genuine folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hub_folders import MODELS


@pytest.fixture(scope="session")
def models(shared: Path) -> dict[str, Any]:
    from transformers import AutoModel

    found = {}
    for name in MODELS:
        base = shared / "formats-refs" / "adapterhub" / name / "base"
        found[name] = AutoModel.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    return found
