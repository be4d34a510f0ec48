"""Receipts as the specification says: every one that a merge writes fits the schema and the text."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.ops import receipt

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


def test_a_patch_read_as_the_text_says(tmp_path: Path) -> None:
    """The base, restored by hand from the merged weights, the adapter's product and the patch."""
    W = torch.randn(64, 48).bfloat16()
    base, adapter = c.bare(tmp_path / "base", {"q.weight": W}), c.lora_at(Target("q", "linear", (64, 48)), scale=2.0)
    api.merge(base, [adapter], tmp_path / "out")
    blob = bytes(load_file(tmp_path / "out/adaptr/receipt.safetensors")["q.weight:patch"].tolist())
    gaps, count, size, *lengths = struct.unpack_from("<6Q", blob)
    assert size == 2
    streams, at = [], 48
    for length in lengths:
        streams.append(zlib.decompress(blob[at : at + length]))
        at += length
    assert (at, len(streams[0]), len(streams[1])) == (len(blob), gaps, count)
    merged = c.tensors_of(tmp_path / "out")["q.weight"]
    A, B = (adapter.tensors[f"q:{name}"] for name in "AB")
    bits = (merged.float() - B @ A).bfloat16().view(torch.int16).reshape(-1)
    position, value = -1, iter(zip(*streams[1:], strict=True))
    for gap in streams[0]:
        position += gap
        if gap != 255:
            position += 1
            low, high = next(value)
            bits[position] ^= int.from_bytes(bytes([low, high]), "little", signed=True)
    assert count > 50
    assert torch.equal(bits, W.view(torch.int16).reshape(-1))
    digest = hashlib.sha256(bits.numpy().tobytes()).hexdigest()
    assert document(tmp_path / "out")["tensors"]["q.weight"]["digest"] == f"sha256:{digest}"
