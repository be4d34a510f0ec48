"""A base and a copy of it with every parameter moved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import checkpoints
from checkpoints import model_of
from extracting.pairs import Pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A base and a copy with every parameter moved; made once a kind."""
    made: dict[tuple[str, str], tuple[Path, Path]] = {}

    def build(kind: str, dtype: torch.dtype = torch.float32) -> tuple[Path, Path]:
        key = (kind, str(dtype))
        if key not in made:
            root = tmp_path_factory.mktemp(kind)
            base = checkpoints.saved(kind, root / "base", dtype, shard="40KB")
            model = model_of(base)
            g = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for p in model.parameters():
                    p.add_((0.05 * torch.randn(p.shape, generator=g)).to(p.dtype))
            model.save_pretrained(root / "tuned")
            made[key] = (base, root / "tuned")
        return made[key]

    return build
