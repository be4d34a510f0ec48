"""Tiny random models with their tokenizers, adapters on them, and records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from adaptr import api
from adaptr.testing import shaken

WORDS = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(60))]


def saved(kind: str, folder: Path, **config: Any) -> Path:
    """A tiny random model with its tokenizer, as a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = tiny.model(kind)
    for name, value in config.items():
        setattr(model.config, name, value)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return folder


def text(seed: int, least: int = 3, most: int = 12) -> str:
    draw = torch.Generator().manual_seed(seed)
    count = int(torch.randint(least, most, (1,), generator=draw))
    return " ".join(f"w{int(i)}" for i in torch.randint(0, 60, (count,), generator=draw))


def lines(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("bert", tmp_path_factory.mktemp("models") / "bert", id2label={0: "bad", 1: "good"})


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts and completions of different lengths."""
    rows = [{"prompt": text(i) + " ", "completion": text(100 + i, 1, 9)} for i in range(17)]
    return lines(tmp_path_factory.mktemp("data") / "pairs.jsonl", rows)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"text": text(i), "label": ["good", "bad"][i % 3 == 0]} for i in range(15)]
    return lines(tmp_path_factory.mktemp("data") / "reviews.jsonl", rows)


@pytest.fixture(scope="session")
def loras(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from transformers import LlamaForCausalLM

    folder, model = tmp_path_factory.mktemp("adapters"), LlamaForCausalLM.from_pretrained(llama)
    made = []
    for seed, name in enumerate(("style", "tone")):
        made.append(folder / f"{name}.safetensors")
        api.save(shaken(api.create(model, "lora", r=2), seed, 0.3), made[-1])
    return made
