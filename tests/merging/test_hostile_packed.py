"""Receipts of packed bases that were tampered with: refused, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import adaptr
from adaptr.checkpoint import open_checkpoint
from adaptr.errors import AdaptrError
from merging.forged import Blobs, Document, forge
from packed_bases import PATHS, lora

CODES, ABSMAX = f"{PATHS[0]}.weight", f"{PATHS[0]}.weight.absmax"


@pytest.fixture(params=[False, True])
def merged(shared: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    base = shared / "quant-refs" / "bnb-nf4"
    adaptr.merge(base, lora(open_checkpoint(base), 0.3), tmp_path / "out", packed=request.param)
    return tmp_path / "out"


def _drop(blobs: Blobs, end: str) -> None:
    for key in [key for key in blobs if key.endswith(end)]:
        del blobs[key]


CHANGES: dict[str, Callable[[Document, Blobs], Any]] = {
    "no weights lay packed": lambda d, b: d.pop("packed", None),
    "a weight that never was": lambda d, b: d["packed"].update({"made.up.weight": "bnb-nf4"}),
    "packed by a number": lambda d, b: d["packed"].update({CODES: 4}),
    "codes of another weight": lambda d, b: d["tensors"][CODES].update(of="lm_head.weight"),
    "codes of nothing": lambda d, b: d["tensors"][CODES].update(of="nothing"),
    "no codes": lambda d, b: d["tensors"][CODES].pop("codes"),
    "codes of another digest": lambda d, b: d["tensors"][CODES].update(digest="sha256:" + "0" * 64),
    "a patch that is noise": lambda d, b: b.update({f"{CODES}:codes": b"noise" * 40}),
    "a patch that is cut": lambda d, b: b.update({f"{CODES}:codes": b.get(f"{CODES}:codes", b"x" * 9)[:-3]}),
    "scales that are noise": lambda d, b: b.update({f"{ABSMAX}:old": b"noise"}) if f"{ABSMAX}:old" in b else d.clear(),
    "no scales": lambda d, b: _drop(b, ".absmax:old") if f"{ABSMAX}:old" in b else d.clear(),
    "another configuration": lambda d, b: b.update({"file:config.json": b"{}"}),
    "a configuration of floats": lambda d, b: b.update({"file:config.json": b'{"model_type": "llama"}'}),
    "another header": lambda d, b: b.update({"header:model.safetensors": b"\x02" + bytes(7) + b"{}"}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_forged_receipt_is_refused(merged: Path, change: Callable[[Document, Blobs], Any]) -> None:
    assert forge(merged, change)
    with pytest.raises(AdaptrError):
        adaptr.unmerge(merged, merged.with_name("back"))
    assert not merged.with_name("back").exists()
    assert not [path for path in merged.parent.iterdir() if path.name.startswith(".")]
