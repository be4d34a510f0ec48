"""Receipts and files of merges into GGUF that were tampered with: refused, and nothing is written."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import adaptr
import gguf_files
from adaptr.checkpoint import open_checkpoint
from adaptr.errors import AdaptrError
from adaptr.format.gguf import open_header
from merging.forged import Blobs, Document, forge
from packed_bases import PATHS, lora

NAME = f"{PATHS[1]}.weight"


def refused(merged: Path) -> None:
    before = sorted(merged.parent.iterdir())
    with pytest.raises(AdaptrError):
        adaptr.unmerge(merged, merged.with_name("back.gguf"))
    assert sorted(merged.parent.iterdir()) == before


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    base = gguf_files.base(tmp_path / "base.gguf", "Q8_0")
    adaptr.merge(base, lora(open_checkpoint(base), 0.3), tmp_path / "out.gguf")
    return tmp_path / "out.gguf"


@pytest.fixture
def retyped(shared: Path, tmp_path: Path) -> Path:
    base = shared / "quant-refs" / "gguf-q4_k" / "model.gguf"
    adaptr.merge(base, lora(open_checkpoint(base), 0.3), tmp_path / "out.gguf")
    return tmp_path / "out.gguf"


CODES: dict[str, Callable[[Document, Blobs], Any]] = {
    "no weights lay packed": lambda d, b: d.pop("packed"),
    "codes of another weight": lambda d, b: d["tensors"][NAME].update(of="model.norm.weight"),
    "codes of nothing": lambda d, b: d["tensors"][NAME].update(of="nothing"),
    "no codes": lambda d, b: d["tensors"][NAME].pop("codes"),
    "no patch": lambda d, b: b.pop(f"{NAME}:codes"),
    "a patch that is noise": lambda d, b: b.update({f"{NAME}:codes": b"noise" * 40}),
    "a patch that is too long": lambda d, b: b.update({f"{NAME}:codes": bytes(100_000)}),
    "another tensor's digest": lambda d, b: d["tensors"][NAME].update(digest="sha256:" + "0" * 64),
    "another header": lambda d, b: b.update({"header:base.gguf": b"GGUF" + bytes(40)}),
    "a header that is none": lambda d, b: b.update({"header:base.gguf": b"{}"}),
    "a file beside": lambda d, b: b.update({"file:config.json": b"{}"}),
}


@pytest.mark.parametrize("change", CODES.values(), ids=CODES)
def test_a_forged_receipt_is_refused(merged: Path, change: Callable[[Document, Blobs], Any]) -> None:
    assert forge(merged, change)
    refused(merged)


def _longer(document: Document, blobs: Blobs) -> None:
    """A header in which the first tensor is a thousand times as long."""
    (name,) = (key for key in blobs if key.startswith("header:"))
    raw = bytearray(blobs[name])
    at = raw.index(b"token_embd.weight") + len("token_embd.weight") + 4
    (columns,) = struct.unpack_from("<Q", raw, at)
    struct.pack_into("<Q", raw, at, 1024 * columns)
    blobs[name] = bytes(raw)


WHOLE: dict[str, Callable[[Document, Blobs], Any]] = {
    "no header": lambda d, b: b.pop("header:model.gguf"),
    "a header that is cut": lambda d, b: b.update({"header:model.gguf": b["header:model.gguf"][:-100]}),
    "a longer tensor": _longer,
    "no copy": lambda d, b: b.pop(f"{NAME}:old"),
    "a copy that is noise": lambda d, b: b.update({f"{NAME}:old": b"noise" * 40}),
    "a copy that is cut": lambda d, b: b.update({f"{NAME}:old": b[f"{NAME}:old"][:-9]}),
    "codes": lambda d, b: d["tensors"][NAME].update(codes=True, old=False) or d["tensors"][NAME].pop("old"),
}


@pytest.mark.parametrize("change", WHOLE.values(), ids=WHOLE)
def test_a_forged_receipt_of_other_types_is_refused(retyped: Path, change: Callable[[Document, Blobs], Any]) -> None:
    assert forge(retyped, change)
    refused(retyped)


def test_a_file_that_was_changed_since_is_refused(merged: Path) -> None:
    header, raw = open_header(merged), bytearray(merged.read_bytes())
    raw[header.data + header.entries["blk.0.ffn_down.weight"].start + 7] ^= 1
    merged.write_bytes(raw)
    refused(merged)
    merged.write_bytes(raw[:-40])
    refused(merged)
