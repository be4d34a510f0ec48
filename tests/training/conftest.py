"""A tiny random model with words for tokens, as a folder, and data for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny
from training_data import tokenizer

ROWS = [{"prompt": f"w{i} w{i + 1} ", "completion": f"w{i + 2} w{i + 3}"} for i in range(24)]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    torch.manual_seed(0)
    tiny.MAKERS["llama"]().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return file
