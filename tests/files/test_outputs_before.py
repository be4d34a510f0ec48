"""What an output of 0.1.0 may replace, which kept no record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adaptr.errors import OutputExists
from adaptr.files import record
from files.outputs import VECTOR, replaced


def safetensors(path: Path, metadata: dict[str, str]) -> None:
    raw = json.dumps({"__metadata__": metadata}, separators=(",", ":")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw)


def old(kind: str, out: Path) -> Path:
    out.mkdir()
    if kind == "merge":
        document = {"base": {"headers": {"odd.safetensors": "sha256:"}}}
        for place_ in ("adaptr", "adaptr/parent"):
            safetensors(out / place_ / "receipt.safetensors", {"adaptr-receipt": json.dumps(document)})
            shutil.copyfile(VECTOR, out / place_ / "0123456789abcdef.adaptr.safetensors")
        safetensors(out / "odd.safetensors", {"format": "pt"})
        for name in ("config.json", "tokenizer.json", "generation_config.json"):
            (out / name).write_text("{}")
    elif kind == "peft":
        safetensors(out / "adapter_model.safetensors", {"adaptr.about": "{}", "format": "pt"})
        (out / "adapter_config.json").write_text("{}")
    else:
        shutil.copyfile(VECTOR, out / "adapter.adaptr.safetensors")
    return out


@pytest.mark.parametrize("kind", ["merge", "peft", "file"])
def test_an_output_of_before_is_known_by_its_receipt_or_header(tmp_path: Path, kind: str) -> None:
    replaced(old(kind, tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(["new", record.NAME])


@pytest.mark.parametrize("kind", ["merge", "peft", "file"])
@pytest.mark.parametrize("name", ["README.md", "results.json", "model.safetensors", "optimizer.pt", "adaptr/mine.txt"])
def test_beside_it_anything_else_is_a_stranger(tmp_path: Path, kind: str, name: str) -> None:
    out = old(kind, tmp_path / "out")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    with pytest.raises(OutputExists, match=f"`{name if kind == 'merge' else name.partition('/')[0]}"):
        replaced(out)
    assert (out / name).read_text() == "mine"


@pytest.mark.parametrize("first", [b"", b"\xff" * 16, b"{}", (1 << 62).to_bytes(8, "little") + b"{"])
def test_a_receipt_that_is_none_makes_nothing_ours(tmp_path: Path, first: bytes) -> None:
    out = old("merge", tmp_path / "out")
    (out / "adaptr/receipt.safetensors").write_bytes(first)
    with pytest.raises(OutputExists):
        replaced(out)


def test_peft_weights_of_others_are_theirs(tmp_path: Path) -> None:
    out = old("peft", tmp_path / "out")
    safetensors(out / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(OutputExists, match=r"`adapter_model\.safetensors`"):
        replaced(out)
