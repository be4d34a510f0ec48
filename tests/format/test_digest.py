"""Two identities: any bit of the data changes the weights digest, nothing else does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from adaptr import Adapter, Target
from adaptr import errors as e
from adaptr.format import digest, header, read, write
from adaptr.format.io import open_tensors

VALID = Path(__file__).resolve().parents[2] / "registry_spec/vectors/valid"


def weights(path: Path) -> str:
    return digest.of_weights(path, open_tensors(path).header)


@pytest.mark.parametrize("path", sorted(VALID.glob("*")), ids=lambda p: p.stem)
def test_file_and_memory_agree(path):
    assert weights(path) == digest.of_adapter(read(path))


def test_the_file_digest_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 1_000_000)
    assert digest.of_file(path) == "sha256:" + hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_what_is_said_about_weights_does_not_change_their_digest(tmp_path):
    adapter = read(VALID / "minimal_lora.safetensors")
    other = write(adapter.replace(name="other", tags=("x",)), tmp_path / "o.safetensors")
    assert weights(other) == digest.of_adapter(adapter)
    assert digest.of_file(other) != digest.of_file(VALID / "minimal_lora.safetensors")


def test_every_bit_of_the_data_counts(tmp_path):
    raw = (VALID / "minimal_lora.safetensors").read_bytes()
    path = tmp_path / "flipped.safetensors"
    start = open_tensors(VALID / "minimal_lora.safetensors").header.data
    seen = {weights(VALID / "minimal_lora.safetensors")}
    for bit in range(8 * start, 8 * len(raw)):
        path.write_bytes(flip(raw, bit))
        seen.add(weights(path))
    assert len(seen) == 1 + 8 * (len(raw) - start)


def flip(raw: bytes, bit: int) -> bytes:
    found = bytearray(raw)
    found[bit // 8] ^= 1 << bit % 8
    return bytes(found)


@pytest.mark.parametrize("change", [{"key": "p:C"}, {"dtype": "F16"}, {"shape": (3, 2)}, {"key": "p2:B"}])
def test_key_dtype_and_shape_count(change):
    base = {"key": "p:B", "dtype": "BF16", "shape": (2, 3)}
    lines = [digest._line(**{**base, **c}) for c in ({}, change)]
    assert lines[0] != lines[1]


def test_tensors_larger_than_a_chunk(tmp_path):
    A = torch.arange(600_000, dtype=torch.float32).reshape(2, -1)
    adapter = Adapter("acme", {}, {"q": Target("q", "linear", (2, 300_000))}, {"q:A": A})
    path = write(adapter, tmp_path / "a.safetensors")
    assert weights(path) == digest.of_adapter(adapter)


def test_a_file_cut_short_under_the_reader_ends(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes((VALID / "minimal_lora.safetensors").read_bytes())
    found: header.Header = open_tensors(path).header
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(e.FileChanged):
        digest.of_weights(path, found)
