"""The safetensors part: what the vectors can't hold, memory, and agreement with the safetensors library."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from safetensors import deserialize

from adaptr import errors as e
from adaptr.format import header as headers

VECTORS = Path(__file__).resolve().parents[2] / "registry_spec/vectors"


def read(raw: bytes) -> headers.Header:
    return headers.read(io.BytesIO(raw), len(raw))


def file(document: object, size: int = 0) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


def test_entries_and_metadata_are_read():
    entry = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}
    found = read(file({"__metadata__": {"x": "y"}, "a": entry}, 12))
    assert found.entries == {"a": headers.Entry("BF16", (2, 3), 0, 12)}
    assert (found.entries["a"].numel, found.entries["a"].nbytes) == (6, 12)
    assert found.metadata == {"x": "y"}


def test_metadata_that_is_null_is_none_as_mlx_writes_it_and_safetensors_reads_it():
    entry = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}
    raw = file({"__metadata__": None, "a": entry}, 12)
    assert read(raw).metadata == {}
    assert [name for name, _ in deserialize(raw)] == ["a"]


@pytest.mark.parametrize("dtype", sorted(headers.DTYPES))
def test_each_dtype_has_the_size_that_safetensors_gives_it(dtype):
    size = headers.DTYPES[dtype] * 8 // 8
    raw = file({"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}}, size)
    assert read(raw).entries["a"].nbytes == size
    ((key, theirs),) = deserialize(raw)
    assert (key, theirs["dtype"], len(theirs["data"])) == ("a", dtype, size)


def test_a_lying_length_costs_no_memory():
    raw = struct.pack("<Q", headers.MAX_HEADER) + b"{}"
    tracemalloc.start()
    with pytest.raises(e.HeaderTruncated):
        read(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_the_size_is_taken_from_the_file_not_from_the_caller():
    raw = struct.pack("<Q", 10_000) + b"{}"
    with pytest.raises(e.HeaderTruncated):
        headers.read(io.BytesIO(raw), 1 << 40)


def test_the_largest_header_is_read_and_one_byte_more_is_not(monkeypatch):
    monkeypatch.setattr(headers, "MAX_HEADER", 1000)
    assert read(file(b"{}" + b" " * 998)).entries == {}
    with pytest.raises(e.HeaderTooLarge):
        read(file(b"{}" + b" " * 999))
    with pytest.raises(e.HeaderTooLarge):
        headers.build({"k" * 1000: ("F32", ())}, {})


@pytest.mark.parametrize("shape", [[2**62] * 60, [2**63 - 1, 2, 0], [0] * 64])
def test_products_are_exact_and_bounded(shape):
    raw = file({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}})
    if 0 in shape:
        assert read(raw).entries["a"].numel == 0
    else:
        with pytest.raises(e.ShapeInvalid):
            read(raw)


@pytest.mark.parametrize("value", ["[" + "9" * 5000 + "]", "[" + ",".join(["9" * 4000] * 300) + "]"])
def test_digits_without_end_are_refused_at_once(value):
    raw = file(b'{"a":{"dtype":"F32","shape":' + value.encode() + b',"data_offsets":[0,4]}}', 4)
    start = time.process_time()
    with pytest.raises((e.HeaderNotJson, e.ShapeInvalid)):
        read(raw)
    assert time.process_time() - start < 5  # it would take minutes


def test_a_value_nested_to_the_brink_is_refused_not_crashed_on():
    for depth in range(900, 1000, 7):
        with pytest.raises(e.HeaderError):
            read(file(b'{"a":{"dtype":' + b"[" * depth + b"]" * depth + b',"shape":[],"data_offsets":[0,4]}}', 4))


def test_tensors_are_laid_out_by_size_and_key():
    shapes = {"b": ("F16", (3,)), "c": ("I8", (1,)), "a": ("F16", ()), "d": ("F64", (1,)), "e": ("F32", (0, 2))}
    raw, built = headers.build(shapes, {"z": "1", "y": "2"})
    assert list(built.entries) == ["d", "e", "a", "b", "c"]
    assert [entry.start for entry in built.entries.values()] == [0, 8, 8, 10, 16]
    assert list(built.metadata) == ["y", "z"]
    assert built.data % 8 == 0
    assert read(raw + bytes(17)) == built


def test_a_key_with_half_of_a_surrogate_pair_can_t_be_written():
    with pytest.raises(e.HeaderNotUtf8):
        headers.build({"\ud800:A": ("F32", ())}, {})
