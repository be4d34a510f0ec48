"""Every vector against the code, the schema and the safetensors library; the script that makes them; the example."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from safetensors import safe_open

from adaptr import errors
from adaptr.format import canonical, digest, header, read, write
from adaptr.format.io import raw_bytes

SPEC = Path(__file__).resolve().parents[1] / "registry_spec"
VALID = sorted((SPEC / "vectors/valid").glob("*.safetensors"))
INVALID = sorted((SPEC / "vectors/invalid").glob("*.safetensors"))
SCHEMA = json.loads((SPEC / "schemas/manifest.schema.json").read_text())

#: What a schema can see: one document, not its text, its tensors or its method.
SEEN = re.compile(r"field_|format_too_new|feature_unknown|manifest_not_canonical--empty_field")
UNSEEN = re.compile(r"field_invalid--(config_field|config_type|kind_of_method|half_pair|infinity)")
SCHEMATIC = [path for path in INVALID if SEEN.match(path.stem) and not UNSEEN.match(path.stem)]


def named(path: Path) -> str:
    return path.stem


def reason(path: Path) -> type[errors.AdaptrError]:
    words = path.stem.split("--")[0].split("_")
    found: type[errors.AdaptrError] = getattr(errors, "".join(word.capitalize() for word in words))
    return found


def manifest(path: Path) -> object:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["adaptr"])


def leaves(cls: type) -> set[type]:
    return set().union(*(leaves(c) for c in cls.__subclasses__())) if cls.__subclasses__() else {cls}


@pytest.mark.parametrize("path", INVALID, ids=named)
def test_each_invalid_vector_is_refused_for_its_reason(path):
    with pytest.raises(errors.AdaptrError) as caught:
        read(path)
    assert type(caught.value) is reason(path)
    assert str(caught.value).isprintable()


def test_each_way_to_break_the_format_has_a_vector():
    assert leaves(errors.FormatError) <= {reason(path) for path in INVALID}
    assert len(INVALID) >= 25


@pytest.mark.parametrize("path", VALID, ids=named)
def test_each_valid_vector_is_written_back_with_the_same_bytes(path, tmp_path):
    adapter = read(path)
    out = write(adapter, tmp_path / "again.safetensors")
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", VALID, ids=named)
def test_each_valid_vector_opens_in_safetensors(path):
    adapter = read(path)
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(adapter.tensors)
        for key in file.keys():  # noqa: SIM118  it is no mapping
            theirs, ours = file.get_tensor(key), adapter.tensors[key]
            assert theirs.dtype == ours.dtype
            assert theirs.shape == ours.shape
            assert bytes(raw_bytes(theirs)) == bytes(raw_bytes(ours))


@pytest.mark.parametrize("path", VALID, ids=named)
def test_each_valid_manifest_fits_the_schema(path):
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest(path))


@pytest.mark.parametrize("path", SCHEMATIC, ids=named)
def test_the_schema_catches_what_a_schema_can(path):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(manifest(path))


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_unknown_fields_are_kept():
    adapter = read(SPEC / "vectors/valid/unknown_field_kept.safetensors")
    assert adapter.extra["x-lab"] == {"note": None, "😀": 1, "\ue000": 2}


def test_vectors_are_made_by_the_kept_script(tmp_path):
    subprocess.run([sys.executable, SPEC / "vectors/make.py", tmp_path], check=True)
    made = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.glob("*/*")}
    kept = {p.relative_to(SPEC / "vectors"): p.read_bytes() for p in (*VALID, *INVALID)}
    assert made == kept


def test_the_worked_example_is_right():
    """The specification prints bytes and digests of one vector: they are computed again here."""
    text = (SPEC / "README.md").read_text()
    path = SPEC / "vectors/valid/minimal_lora.safetensors"
    with path.open("rb") as file:
        found = header.read(file, path.stat().st_size)
    A, B = (struct.pack(f"<{n}f", *(1 + i / 8 for i in range(n))) for n in (6, 8))
    key = b"model.layers.0.self_attn.q_proj:"
    by_hand = hashlib.sha256(key + b"A\0F32\x002,3\n" + A + key + b"B\0F32\x004,2\n" + B).hexdigest()
    assert digest.of_weights(path, found) == digest.of_adapter(read(path)) == f"sha256:{by_hand}"
    assert f"weights  sha256:{by_hand}" in text
    assert f"file     sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" in text
    assert digest.of_file(path) in text
    assert found.metadata["adaptr"] in text


def test_the_limits_in_the_text_are_those_of_the_code():
    text = (SPEC / "README.md").read_text()
    assert f"{header.MAX_HEADER:,} bytes" in text
    assert f"{header.MAX_KEY:,} characters" in text
    assert f"{canonical.MAX_TEXT:,} characters" in text
    assert f"{canonical.MAX_DEPTH} levels" in text
    assert f"{header.MAX_DIMS} dimensions" in text
    assert all(f"`{dtype}`" in text for dtype in header.DTYPES if header.DTYPES[dtype] >= 8)
    assert all(f"`{kind}`" in text for kind in SCHEMA["$defs"]["kind"]["enum"])
