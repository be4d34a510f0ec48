"""Receipts as the specification says: every one that a merge writes fits the schema and the text."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.merging import receipt

SPEC = Path(__file__).resolve().parents[2] / "registry_spec"
SCHEMA = json.loads((SPEC / "schemas/receipt.schema.json").read_text())


def document(folder: Path) -> dict[str, Any]:
    found = receipt.read(folder)
    assert found.header.metadata[receipt.KEY] == json.dumps(
        dict(found.document), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    jsonschema.validate(dict(found.document), SCHEMA)
    return dict(found.document)


def tied_gpt2(folder: Path) -> Path:
    return c.saved("gpt2", folder, torch.bfloat16, shard="20KB")


def test_receipts_of_all_kinds_fit_the_schema(tmp_path: Path) -> None:
    base = tied_gpt2(tmp_path / "gpt2")
    head = c.lora_at(Target("lm_head", "linear", (tiny.VOCAB, tiny.WIDTH)), seed=1)
    dora, bitfit = c.randomised(base, "dora", "mlp.down"), c.randomised(base, "bitfit")
    replaced = Adapter("lora", {"r": 2}, {}, {"transformer.ln_f.bias:=": torch.ones(tiny.WIDTH)}, name="norm")
    api.merge(base, [head, (dora, 0.5), bitfit], tmp_path / "one", tied="untie")
    api.merge(tmp_path / "one", [(replaced, 1.0)], tmp_path / "two")
    api.merge(base, [dora], tmp_path / "three", receipt=False)
    one, two, three = (document(tmp_path / name) for name in ("one", "two", "three"))
    kinds = {key for note in one["tensors"].values() for key in note}
    assert kinds == {"digest", "dtype", "shape", "added", "old", "kept"}
    assert (one["tied"], one["exact"], three["exact"]) == ("untie", True, False)
    assert [a["weight"] for a in one["adapters"]] == [1, 0.5, 1]
    parent = tmp_path / "one" / receipt.FOLDER / receipt.FILE
    assert two["base"]["receipt"] == "sha256:" + hashlib.sha256(parent.read_bytes()).hexdigest()
    keys = set(receipt.read(tmp_path / "one").header.entries)
    assert {"file:config.json", "file:model.safetensors.index.json"} <= keys
    assert any(key.startswith("header:") for key in keys)
    assert set(receipt.read(tmp_path / "three").header.entries) == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("base"),
        lambda d: d.update(format=1),
        lambda d: d.update(more=1),
        lambda d: d.update(adapters=[]),
        lambda d: d["adapters"][0].update(digest="sha256:00"),
        lambda d: next(iter(d["tensors"].values())).pop("digest"),
    ],
)
def test_the_schema_refuses_what_is_none(tmp_path: Path, change: Any) -> None:
    base = tied_gpt2(tmp_path / "gpt2")
    api.merge(base, [c.randomised(base)], tmp_path / "out")
    found = document(tmp_path / "out")
    change(found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


def by_hand(merged: Tensor, D: Tensor, bits: bytes) -> NDArray[Any]:
    """The base's elements but for what the patch holds, one after the other."""
    (planes,) = struct.unpack_from("<Q", bits)
    counts = struct.unpack_from(f"<{planes}Q", bits, 8)
    at, left = 8 + 8 * planes, []
    for count in counts:
        size = (count + 7) // 8
        left.append(iter(np.unpackbits(np.frombuffer(bits, np.uint8, size, at))[:count].tolist()))
        at += size
    assert at == len(bits)
    P = merged.float() - D
    exponents = [X.view(torch.int16).reshape(-1).int() & 0x7F80 for X in (merged, P.bfloat16())]
    found = P.bfloat16().view(torch.int16).reshape(-1).tolist()
    for i, k in enumerate(((exponents[0] - exponents[1]) >> 7).tolist()):
        if 0 < k <= 8:
            code = sum(next(left[plane]) << plane for plane in range(k))
            found[i] = (int(P.view(torch.int32).reshape(-1)[i]) >> 16) - (1 << (k - 1)) + 1 + code
    assert not [bit for plane in left for bit in plane]
    return np.array(found, np.int16)


def on_grid(X: Tensor, bits: int, dim: int) -> Tensor:
    """Rounded to so many bits below the largest along `dim`; numpy's rounding is half to even, too."""
    step = 2.0 ** (torch.frexp(X.abs().amax(dim, keepdim=True)).exponent.double() - bits)
    return (X / step).round() * step


def test_a_receipt_read_as_the_text_says(tmp_path: Path) -> None:
    """The base, restored by hand from the merged weights, the adapter's product, the bits and the patch."""
    W = torch.randn(64, 48).bfloat16()
    base, adapter = c.bare(tmp_path / "base", {"q.weight": W}), c.lora_at(Target("q", "linear", (64, 48)), scale=2.0)
    api.merge(base, [adapter], tmp_path / "out")
    held = {k: bytes(t.tolist()) for k, t in load_file(tmp_path / "out/adaptr/receipt.safetensors").items()}
    A, B = (adapter.tensors[f"q:{name}"].double() for name in "AB")
    top = [torch.frexp(X.abs().amax(dim)).exponent.double() for X, dim in ((A, 1), (B, 0))]
    shift = ((top[0] - top[1]) / 2).floor()
    D = (on_grid(B * 2**shift, 26, 1) @ on_grid(A * 2 ** -shift[:, None], 26, 0)).float()
    merged = c.tensors_of(tmp_path / "out")["q.weight"]
    assert torch.equal(merged, (W.float() + D).bfloat16())
    bits = by_hand(merged, D, held["q.weight:bits"])
    blob = held["q.weight:patch"]
    gaps, count, size, *lengths = struct.unpack_from("<6Q", blob)
    assert size == 2
    streams, at = [], 48
    for length in lengths:
        streams.append(zlib.decompress(blob[at : at + length]))
        at += length
    assert (at, len(streams[0]), len(streams[1])) == (len(blob), gaps, count)
    position, value = -1, iter(zip(*streams[1:], strict=True))
    for gap in streams[0]:
        position += gap
        if gap != 255:
            position += 1
            low, high = next(value)
            bits[position] ^= np.int16(int.from_bytes(bytes([low, high]), "little", signed=True))
    assert count > 20
    assert np.array_equal(bits, W.view(torch.int16).reshape(-1).numpy())
    digest = hashlib.sha256(bits.tobytes()).hexdigest()
    assert document(tmp_path / "out")["tensors"]["q.weight"]["digest"] == f"sha256:{digest}"
