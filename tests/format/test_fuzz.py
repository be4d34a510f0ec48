"""Readers against bytes that nobody meant: only an `AdaptrError` may come out, soon, and without much memory.

3,000 examples, the same every time; `ADAPTR_FUZZ=100000 pytest tests/format/test_fuzz.py` runs that many random ones.
"""

from __future__ import annotations

import io
import json
import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptr.errors import AdaptrError, FormatError, ShapeError
from adaptr.format import again, canonical, header, manifest, read, write
from adaptr.format.io import from_header

VECTORS = Path(__file__).resolve().parents[2] / "registry_spec/vectors"
VALID = {path.stem: path.read_bytes() for path in sorted((VECTORS / "valid").glob("*"))}
MORE = int(os.environ.get("ADAPTR_FUZZ", "0"))
SLOWEST, LARGEST = 2.0, 50_000_000  # seconds of processor time, bytes: of one example


def fuzz(share: int) -> Callable[[Any], Any]:
    """`share` of 3,000 examples, or of as many as were asked for."""
    return settings(
        max_examples=max(MORE * share // 3000, 1) if MORE else share,
        derandomize=not MORE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class Within:
    """A block that may refuse, but not crash, hang or take memory."""

    def __enter__(self) -> None:
        tracemalloc.start()
        self.start = time.process_time()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        took = time.process_time() - self.start
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert took < SLOWEST
        assert peak < LARGEST
        return isinstance(error, AdaptrError) and str(error).replace("\n", "").isprintable()


def read_bytes(raw: bytes) -> tuple[Any, ...]:
    """Read a file from memory, as `read` does, but for the tensors."""
    found = header.read(io.BytesIO(raw), len(raw))
    adapter = from_header(found, dict.fromkeys(found.entries))  # type: ignore[misc]
    return list(found.entries.items()), found.metadata, found.data, adapter


def outcome(raw: bytes) -> Any:
    """What is read, or the error."""
    try:
        return read_bytes(raw)
    except AdaptrError as error:
        return type(error), str(error)


def require_same_in_two(raw: bytes) -> None:
    """A header whose halves are read each by itself, maybe read before, says what it says as a whole."""
    found = [outcome(raw) for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(again, "KEPT", 0)
        assert found == [outcome(raw)] * 3


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
FIELDS = ["dtype", "shape", "data_offsets", "format", "method", "name", "version", "config", "targets", "kind", "parts"]
words = st.sampled_from(
    [*FIELDS, "__metadata__", "adaptr", "requires", "base", "ties", "lora", "linear", "r", "=", ":"]
)
numbers = st.sampled_from([0, 1, 2, 4, 8, -1, 2**31, 2**53, 2**62, 2**63 - 1, 2**64, 10**400, 1.5, 1e308, True])
junk = st.recursive(
    scalars | words | numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(sorted(header.DTYPES)) | junk,
        "shape": st.lists(numbers | st.integers(0, 4), max_size=4) | junk,
        "data_offsets": st.lists(numbers | st.integers(0, 64), max_size=3) | junk,
    }
)


def prefixed(body: bytes, data: int = 0) -> bytes:
    return struct.pack("<Q", len(body)) + body + bytes(data)


def dumped(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


@fuzz(300)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes(raw, framed):
    with Within():
        read_bytes(prefixed(raw) if framed else raw)


@fuzz(600)
@given(st.dictionaries(words | st.text(), entry | junk, max_size=5), st.integers(0, 64))
def test_random_headers(document, size):
    with Within():
        read_bytes(prefixed(dumped(document), size))


#: (what, where, how much): what happens to some bytes.
edits = st.lists(
    st.tuples(st.sampled_from(["flip", "drop", "double", "insert", "zero"]), st.floats(0, 1), st.integers(1, 255)),
    min_size=1,
    max_size=4,
)


def mutated(raw: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    found = bytearray(raw)
    for what, where, n in changes:
        at = int(where * max(len(found) - 1, 0))
        if what == "flip" and found:
            found[at] ^= n
        elif what == "drop":
            del found[at : at + n]
        elif what == "double":
            found[at:at] = found[at : at + n]
        elif what == "insert":
            found[at:at] = bytes([n])
        else:
            found[at : at + n % 8] = bytes(n % 8)
    return bytes(found)


@fuzz(900)
@given(st.sampled_from(sorted(VALID)), edits, st.booleans())
def test_mutated_files(name, changes, framed):
    """Anywhere, or in the JSON alone with the length set right, so that the mutation gets past the first check."""
    raw = VALID[name]
    (length,) = struct.unpack("<Q", raw[:8])
    body, data = raw[8 : 8 + length], raw[8 + length :]
    changed = prefixed(mutated(body, changes)) + data if framed else mutated(raw, changes)
    with Within():
        read_bytes(changed)
    require_same_in_two(changed)


def parts_of(document: Any) -> list[tuple[Any, Any]]:
    """Every place in a document, as (container, key)."""
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else []
    return [place for key in keys for place in ((document, key), *parts_of(document[key]))]


@fuzz(900)
@given(
    st.sampled_from(sorted(VALID)), st.lists(st.tuples(st.floats(0, 1), junk), min_size=1, max_size=3), st.booleans()
)
def test_manifests_with_junk_in_some_fields(name, changes, tidy):
    raw = VALID[name]
    (length,) = struct.unpack("<Q", raw[:8])
    document = json.loads(raw[8 : 8 + length])
    found = json.loads(document["__metadata__"]["adaptr"])
    for where, value in changes:
        places = parts_of(found)
        container, key = places[int(where * (len(places) - 1))]
        container[key] = value
    try:
        text = rfc8785.dumps(found).decode() if tidy else json.dumps(found)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        text = json.dumps(found)
    document["__metadata__"]["adaptr"] = text
    changed = prefixed(json.dumps(document, separators=(",", ":")).encode()) + raw[8 + length :]
    with Within():
        read_bytes(changed)
    require_same_in_two(changed)


@fuzz(300)
@given(st.text() | junk.map(json.dumps))
def test_random_manifests(text):
    with Within():
        document = canonical.loads(text)
        canonical.is_canonical(text, document)
        manifest.adapter(document, {})


@pytest.mark.parametrize("name", ["minimal_lora", "quantized_int8", "quantized_packed", "quantized_two_pieces"])
def test_every_flip_of_a_bit_in_the_header_is_refused_or_another_adapter(name, tmp_path):
    """What is still read is written back as it was read, or says something else about the same bytes."""
    raw = VALID[name]
    (length,) = struct.unpack("<Q", raw[:8])
    path, out, accepted = tmp_path / "a.safetensors", tmp_path / "b.safetensors", 0
    original = read(VECTORS / f"valid/{name}.safetensors")
    for bit in range(8 * (8 + length)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            read_bytes(bytes(flipped))
        except (FormatError, ShapeError):
            continue
        path.write_bytes(flipped)
        adapter, accepted = read(path), accepted + 1
        said = manifest.dump(adapter) != manifest.dump(original)
        held = adapter.tensors.header.entries != original.tensors.header.entries
        assert said or held or write(adapter, out, force=True).read_bytes() == raw
    assert accepted  # a flip in a text, for one, is another text
