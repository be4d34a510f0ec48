"""Bases as transformers loads them: whatever their files lead it to is the files' fault, not ours."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import transformers

from adaptr.errors import CheckpointError
from adaptr.models.load import explained, model_at

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("text", [DEEP, "[1]", "5", "{", '{"tokenizer_class": 5}', '{"auto_map": [[]]}'])
def test_a_tokenizer_that_is_none_is_said_to_be(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match="can't be loaded by transformers"):
        explained(tmp_path, transformers.AutoTokenizer.from_pretrained)


@pytest.mark.parametrize("text", [DEEP, "[1]", '{"model_type": []}', '{"model_type": "llama", "hidden_size": "x"}'])
def test_neither_is_a_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="can't be loaded by transformers"):
        explained(tmp_path, transformers.AutoConfig.from_pretrained)


def test_where_there_is_nothing_near_names_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"nothing at `bas`.*did you mean `base`"):
        explained("bas", transformers.AutoConfig.from_pretrained)


@pytest.mark.parametrize("base", ["acme/nobody", "broken"])
def test_nobody_is_asked_for_a_model(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers asked the Hub for a PEFT adapter, and again for half a minute where it did not answer."""
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *host, **_: asked.append(host) or [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").write_bytes(b"no model")
    with pytest.raises(CheckpointError):
        model_at(base, transformers.AutoModelForCausalLM.from_pretrained)
    assert asked == []
