"""A base, two adapters of which one is the truth, and texts that base and truth together would write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

import adaptr
from adaptr.testing import shaken
from evaluating.conftest import WORDS, lines, saved


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def loras(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, model = tmp_path_factory.mktemp("adapters"), LlamaForCausalLM.from_pretrained(llama)
    files = [folder / f"{name}.safetensors" for name in ("style", "tone")]
    for seed, file in enumerate(files):
        adaptr.save(shaken(adaptr.create(model, "lora", "all-linear", r=2), seed, 0.6), file)
    return files


@pytest.fixture(scope="session")
def texts(llama: Path, loras: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the base writes with style at 0.9 and tone at 0.4: a mixture is better than either."""
    model = LlamaForCausalLM.from_pretrained(llama).eval()
    torch.manual_seed(0)
    start = torch.randint(4, 64, (48, 2))
    with adaptr.stack(model, {"style": (loras[0], 0.9), "tone": (loras[1], 0.4)}):
        said = model.generate(start, do_sample=True, max_new_tokens=22, min_new_tokens=22, pad_token_id=0)
    rows = [{"text": " ".join(WORDS[int(i)] for i in line)} for line in said]
    return lines(tmp_path_factory.mktemp("data") / "texts.jsonl", rows)
