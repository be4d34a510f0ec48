"""The header of GGUF files: what llama.cpp's library writes is read, and every other claim is refused by name."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import gguf as library
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptr import errors as e
from adaptr.format import gguf
from adaptr.format.header import Entry
from gguf_files import LAYER, pair, written


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def said(name: str, kind: int, raw: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + raw


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, start: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, start)


def made(*values: bytes, tensors: tuple[bytes, ...] = (), data: int = 0, first: bytes = b"GGUF\3\0\0\0") -> bytes:
    """A file of these values and tensors, and `data` bytes of zeros where data begins."""
    head = first + struct.pack("<QQ", len(tensors), len(values)) + b"".join((*values, *tensors))
    return head + bytes(-len(head) % 32 + data)


def read(raw: bytes) -> gguf.GgufHeader:
    return gguf.read(io.BytesIO(raw), len(raw))


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    values: dict[str, Any] = {"a.text": "é", "a.count": 7, "a.list": ["x", "y"], "a.long": list(range(1000))}
    factors = pair()
    file = written(tmp_path / "x.gguf", factors, values)
    found = gguf.open_header(file)
    assert found.text("a.text") == "é"
    assert found.count("a.count") == 7
    assert found.metadata["a.list"] == ("x", "y")
    assert found.metadata["a.long"] == "1000 values"
    raw = file.read_bytes()
    for key, value in factors.items():
        entry = found.entries[key]
        assert entry.shape == tuple(value.shape)
        data = bytearray(raw[found.data + entry.start : found.data + entry.stop])
        assert torch.equal(torch.frombuffer(data, dtype=torch.float32).reshape(entry.shape), value)


def test_the_types_of_tensors_are_the_librarys() -> None:
    sizes = {kind.value: (kind.name, *library.GGML_QUANT_SIZES[kind]) for kind in library.GGMLQuantizationType}
    assert {code: sizes[code] for code in gguf.TYPES} == dict(gguf.TYPES)


@pytest.mark.parametrize(("kind", "form"), gguf.NUMBERS.items())
def test_every_type_of_number_is_read(kind: int, form: str) -> None:
    assert read(made(said("n", kind, struct.pack(f"<{form}", 1)))).metadata == {"n": 1}


def test_shapes_are_row_major_and_quantised_rows_whole_blocks() -> None:
    found = read(made(tensors=(tensor("t", (64, 3), kind=8),), data=3 * 68))
    assert found.entries == {"t": Entry("Q8_0", (3, 64), 0, 3 * 68)}


def test_a_header_without_what_is_passed_over_says_the_rest() -> None:
    words = said("words", 9, struct.pack("<IQ", 8, 1000) + text("x") * 1000)
    numbers = said("numbers", 9, struct.pack("<IQ", 5, 257) + bytes(4 * 257))
    t = tensor("t", (8,), start=0)
    raw = made(numbers, ONE, words, tensors=(t,), data=32)
    header = read(raw)
    assert (header.length("words"), header.length("numbers"), header.length("none")) == (1000, 257, 0)
    assert gguf.shortened(header, raw[: header.data]) + bytes(32) == made(ONE, tensors=(t,), data=32)


KINDS = st.sampled_from(["F32", "F16", "Q8_0", "Q4_K", "Q6_K"])


@given(st.lists(st.tuples(KINDS, KINDS, st.integers(1, 3)), min_size=1, max_size=5))
def test_tensors_of_other_types_lie_one_behind_the_other(tensors: list[tuple[str, str, int]]) -> None:
    def file(kinds: list[str]) -> bytes:
        places, at = [], 0
        for i, (kind, (_, _, rows)) in enumerate(zip(kinds, tensors, strict=True)):
            _, block, size = gguf.TYPES[gguf.CODES[kind]]
            places.append(tensor(f"t{i}", (256, rows), gguf.CODES[kind], at))
            at += -(-rows * 256 // block * size // 32) * 32
        return made(ONE, tensors=tuple(places), data=at)

    was, now = file([kind for kind, _, _ in tensors]), file([kind for _, kind, _ in tensors])
    header, wanted = read(was), read(now)
    types = {f"t{i}": kind for i, (_, kind, _) in enumerate(tensors)}
    raw, entries = gguf.retyped(header, was[: header.data], types)
    assert raw == now[: wanted.data]
    assert entries == wanted.entries


ONE = said("n", 4, struct.pack("<I", 1))


@pytest.mark.parametrize(
    ("raw", "error", "match"),
    [
        (b"GGUF", e.HeaderTruncated, "wants 4 bytes"),
        (made(ONE)[:40], e.HeaderTruncated, "wants"),
        (made(first=b"GGML\3\0\0\0"), e.HeaderError, "does not begin"),
        (made(first=b"GGUF\1\0\0\0"), e.Unsupported, "version 1"),
        (made(first=b"GGUF\0\0\0\3"), e.Unsupported, "big-endian"),
        (b"GGUF\3\0\0\0" + struct.pack("<QQ", 2**63, 2**63), e.HeaderTruncated, "wants"),
        (made(struct.pack("<Q", 2**40)), e.HeaderTruncated, "wants 1099511627776 bytes"),
        (made(said("n", 8, text(b"\xff"))), e.HeaderNotUtf8, "not UTF-8"),
        (made(said("n" * 2000, 4, struct.pack("<I", 1))), e.KeyTooLong, "2000 characters"),
        (made(ONE, ONE), e.KeyDuplicate, "`n` is there twice"),
        (made(said("n", 99, b"")), e.MetadataInvalid, "type 99"),
        (made(said("n", 6, struct.pack("<f", float("nan")))), e.MetadataInvalid, "nan"),
        (made(said("n", 9, struct.pack("<IQ", 9, 1))), e.MetadataInvalid, "type 9"),
        (made(said("n", 9, struct.pack("<IQ", 9, 2**60))), e.MetadataInvalid, "type 9"),
        (made(said("n", 9, struct.pack("<IQ", 8, 2**60))), e.HeaderTruncated, "wants"),
        (made(said("n", 9, struct.pack("<IQ", 4, 2**60))), e.HeaderTruncated, "wants"),
        (made(said("general.alignment", 4, struct.pack("<I", 24))), e.MetadataInvalid, "power of 2"),
        (made(said("general.alignment", 8, text("x"))), e.MetadataInvalid, "power of 2"),
        (made(tensors=(tensor("t", (1,) * 5),), data=4), e.ShapeInvalid, "5 axes"),
        (made(tensors=(text("t") + struct.pack("<I", 2**31),), data=4), e.ShapeInvalid, "axes"),
        (made(tensors=(tensor("t", (2**40, 2**40)),), data=4), e.ShapeInvalid, "shape"),
        (made(tensors=(tensor("t", (33,), kind=8),), data=68), e.ShapeInvalid, "blocks of 32"),
        (made(tensors=(tensor("t", (1,), kind=77),), data=4), e.DtypeUnknown, "type 77"),
        (made(tensors=(tensor("t", (1,)), tensor("t", (1,))), data=4), e.KeyDuplicate, "twice"),
        (made(tensors=(tensor("t", (4,)),), data=15), e.DataTruncated, "16 of 15"),
        (made(tensors=(tensor("t", (4,), start=8),), data=64), e.OffsetsInvalid, "multiple of 32"),
        (made(tensors=(tensor("t", (9,)), tensor("u", (9,), start=32)), data=96), e.OffsetsOverlap, "share bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(raw: bytes, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        read(raw)


def test_a_header_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "MAX_HEADER", 64)
    with pytest.raises(e.HeaderTooLarge, match="<= 64"):
        read(made(said("n", 8, text("x" * 100))))


@pytest.mark.parametrize(("kind", "raw"), [(8, text("2")), (4, bytes(4)), (4, b"\0\0\1\0"), (7, b"\1")])
def test_a_count_is_a_small_number(kind: int, raw: bytes) -> None:
    with pytest.raises(e.MetadataInvalid, match=r"`n`.*wanted a count"):
        read(made(said("n", kind, raw))).count("n")


def test_a_text_is_a_text() -> None:
    with pytest.raises(e.MetadataInvalid, match="wanted a text"):
        read(made(ONE)).text("n")


def test_errors_name_the_file(tmp_path: Path) -> None:
    file = written(tmp_path / "x.gguf", pair())
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(e.DataTruncated, match=rf"x\.gguf`: `{LAYER}"):
        gguf.open_header(file)
    assert gguf.is_gguf(file)
    assert not gguf.is_gguf(tmp_path)
