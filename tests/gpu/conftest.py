"""Tests for a machine with an accelerator: `make gpu`. `ADAPTR_GPU=cpu` runs them without one, to see that they run."""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = os.environ.get("ADAPTR_GPU", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        here = os.path.dirname(__file__)
        for item in items:
            if str(item.path).startswith(here):
                item.add_marker(pytest.mark.skip(reason="no CUDA device: `make gpu` runs this where there is one"))


@pytest.fixture
def device() -> str:
    return DEVICE
