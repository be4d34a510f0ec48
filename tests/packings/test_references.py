"""Genuine small checkpoints by the libraries that pack: every weight decodes to their own bits, whole and in blocks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.reading import reading, whole
from adaptr.packings import Grid
from packed_files import empty, held

#: Folder of the reference, scheme of its weights.
REFERENCES = {
    "bnb-nf4": "bnb-nf4",
    "bnb-nf4-dq": "bnb-nf4",
    "bnb-fp4": "bnb-fp4",
    "bnb-int8": "bnb-int8",
    "fp8-block": "fp8",
    "ct-int4-g128": "ct-int4",
    "ct-int8-channel": "ct-int8",
    "ct-int8-w8a8": "ct-int8",
    "ct-fp8-tensor": "ct-fp8",
    "ct-fp8-channel": "ct-fp8",
    "ct-fp8-block": "ct-fp8",
    "ct-nvfp4": "ct-nvfp4",
    "ct-mxfp4": "ct-mxfp4",
    "mxfp4": "mxfp4",
    "torchao-int8": "torchao-int8",
    "torchao-float8": "torchao-float8",
    "torchao-intx4": "torchao-int4",
    "gptq-int4": "gptq-int4",
    "gptq-int4-actorder-v2": "gptq-int4",
    "gptq-int8": "gptq-int8",
    "awq": "awq",
    "hqq": "hqq",
}


@pytest.fixture(params=REFERENCES)
def reference(shared: Path, request: pytest.FixtureRequest) -> Path:
    return shared / "quant-refs" / request.param


def _sha(values: torch.Tensor) -> str:
    return hashlib.sha256(values.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def _expected(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    return found


def test_every_weight_decodes_to_the_librarys_bits(reference: Path) -> None:
    checkpoint = open_checkpoint(reference)
    expected = _expected(reference)
    packed = {name for name, stored in checkpoint.tensors.items() if isinstance(stored, Packed)}
    assert packed == expected.keys()
    for name, want in expected.items():
        stored = checkpoint.tensors[name]
        assert isinstance(stored, Packed)
        assert stored.codec.scheme == REFERENCES[reference.name]
        assert list(stored.entry.shape) == want["shape"]
        assert _sha(whole(stored)) == want["sha256"], name


def test_blocks_of_rows_are_the_same_rows(reference: Path) -> None:
    for stored in open_checkpoint(reference).tensors.values():
        if isinstance(stored, Packed):
            with reading(stored) as rows:
                first = min(3, stored.entry.shape[0] - 1)
                part = rows(slice(first, stored.entry.shape[0]))
                found = [part.read(slice(i, i + 37)) for i in range(0, part.count, 37)]
            assert torch.equal(torch.cat(found), whole(stored)[first:])


def test_values_on_the_grid_are_their_own_codes(reference: Path) -> None:
    """Encoding what was decoded gives the codes back, or codes of the same value."""
    for stored in open_checkpoint(reference).tensors.values():
        if isinstance(stored, Packed) and isinstance(codec := stored.codec, Grid):
            with reading(stored) as rows:
                parts = rows(slice(0, 0)).parts
                codes = codec.codes(parts, 0, codec.shape[0])
                values = codec.values(codes, parts, 0)
                again = codec.nearest(values.float(), parts, 0)
                assert torch.equal(codec.values(again, parts, 0), values)
                assert bool((codec.steps(codes, parts, 0) >= 0).all())


def test_values_are_written_again_as_the_bytes_that_they_were(reference: Path) -> None:
    """In blocks; of codes that stand for one value, the file's may be another."""
    for stored, parts in held(reference):
        if isinstance(codec := stored.codec, Grid):
            into = empty(parts, codec.main)
            for i in range(0, codec.shape[0], 22):
                values = codec.decode(parts, i, min(i + 22, codec.shape[0]))
                codec.put(codec.nearest(values.float(), parts, i), i, into)
            assert torch.equal(codec.decode(into, 0, codec.shape[0]), codec.decode(parts, 0, codec.shape[0]))
            differ = int(
                (into[codec.main].tensor.view(torch.uint8) != parts[codec.main].tensor.view(torch.uint8)).sum()
            )
            assert differ == 0 or codec.scheme in {"bnb-fp4", "bnb-int8"}
