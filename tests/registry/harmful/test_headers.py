"""Headers that readers understand differently, manifests that lie of their file, through every remote (threat 12)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import errors as e
from adaptr.registry import pack, strict, terms
from adaptr.registry.manifest import Manifest
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from registry.conftest import enveloped, layer
from registry.harmful.packed import laid_out
from registry.published import LAYER, PEFT, written
from registry.servers.hub import fake_hub, meant
from registry.servers.registry import DockerRegistry
from registry.servers.safetensors import packed, raw


def _entry(start: int, stop: int, dtype: str = "F32", shape: str = "[1]") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{stop}]}}'


A = _entry(0, 4)
MANY = "{" + ",".join(f'"t{number}":{_entry(0, 0, shape="[0]")}' for number in range(70_000)) + "}"
#: Header, data, and what it is called when it is refused.
HEADERS: dict[str, tuple[str | bytes, bytes, type[Exception]]] = {
    "the same tensor twice": (f'{{"a":{A},"a":{A}}}', b"0000", e.KeyDuplicate),
    "the same tensor twice, escaped": (f'{{"a":{A},"\\u0061":{A}}}', b"0000", e.KeyDuplicate),
    "the same word of metadata twice": (f'{{"__metadata__":{{"x":"1","x":"2"}},"a":{A}}}', b"0000", e.KeyDuplicate),
    "an unknown field": (f'{{"a":{A[:-1]},"url":1}}}}', b"0000", e.EntryMalformed),
    "space before": (f' {{"a":{A}}}', b"0000", e.HeaderNotJson),
    "a list": ("[1]", b"", e.HeaderNotJson),
    "a name that leads up": (f'{{"../../x":{A}}}', b"0000", e.EntryMalformed),
    "a name with a backslash": (f'{{"a\\\\b":{A}}}', b"0000", e.EntryMalformed),
    "a name with a control character": (f'{{"a\\u001b[2J":{A}}}', b"0000", e.EntryMalformed),
    "no name": (f'{{"":{A}}}', b"0000", e.EntryMalformed),
    "overlap": (f'{{"a":{A},"b":{_entry(0, 4)}}}', b"0000", e.OffsetsOverlap),
    "a hole": (f'{{"a":{A},"b":{_entry(8, 12)}}}', b"0" * 12, e.OffsetsHole),
    "bytes behind": (f'{{"a":{A}}}', b"0" * 8, e.DataTrailing),
    "too few bytes": (f'{{"a":{A}}}', b"0", e.DataTruncated),
    "a shape that overflows": (f'{{"a":{_entry(0, 4, shape="[4294967296,4294967296]")}}}', b"0000", e.ShapeInvalid),
    "a negative shape": (f'{{"a":{_entry(0, 4, shape="[-1]")}}}', b"0000", e.ShapeInvalid),
    "an unknown dtype": (f'{{"a":{_entry(0, 4, dtype="F33")}}}', b"0000", e.DtypeUnknown),
    "not UTF-8": (b'{"\xff":{}}', b"", e.HeaderNotUtf8),
    "metadata of 20 MB": (f'{{"__metadata__":{{"x":"{"y" * 20_000_000}"}}}}', b"", e.HeaderTooLarge),
    "very many tensors": (MANY, b"", e.HeaderTooLarge),
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_headers_that_readers_understand_differently(what: str, tmp_path: Path) -> None:
    header, data, error = HEADERS[what]
    file = tmp_path / "x.safetensors"
    file.write_bytes(raw(header, data))
    with pytest.raises(error, match=r"called\.safetensors"):
        strict.header("called.safetensors", file)


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\xff" * 8, b"\xff" * 64, b"\2\0\0\0\0\0\0\0{"])
def test_what_does_not_even_start_like_one(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(e.HeaderError):
        strict.header("x", tmp_path / "x")


@pytest.mark.parametrize("what", ["the same tensor twice", "a name that leads up", "bytes behind"])
def test_they_do_not_come_in_by_any_remote(
    what: str,
    plain: DockerRegistry,
    repository: str,
    store: Store,
    other: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header, data, error = HEADERS[what]
    evil = raw(header, data)
    digest = store.put(enveloped(store, [layer(store, "adapter_model.safetensors", evil)], {}))
    laid_out(store, digest, tmp_path / "layout")
    of("oci").push(store, digest, parse(f"oci://{plain.host}/{repository}:v1"))
    with fake_hub() as hub:
        meant(hub, monkeypatch)
        hub.add("acme/evil", {**PEFT, "adapter_model.safetensors": evil})
        for place in ("hf://acme/evil", f"file://{tmp_path}/layout#v1", f"oci://{plain.host}/{repository}:v1"):
            with pytest.raises(error):
                of(parse(place).scheme).pull(parse(place), other)
    assert other.index.entries() == []


LIES: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "another base": lambda said: {**said, terms.BASE_MODEL: "acme/other"},
    "another method": lambda said: {**said, terms.METHOD: "dora"},
    "another rank": lambda said: {**said, terms.RANK: "64"},
    "parents": lambda said: {**said, terms.PARENTS: "sha256:" + "0" * 64},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_says_something_else_than_its_file(lie: str, store: Store, tmp_path: Path) -> None:
    folder = written(tmp_path / "folder")
    true = pack.stored(folder, store)
    assert terms.BASE_MODEL in true.annotations
    false = Manifest.make(true.config, true.layers, true.artifact_type, LIES[lie](dict(true.annotations)))
    laid_out(store, store.put(false), tmp_path / "layout")
    with pytest.raises(e.BadManifest, match="own file says"):
        of("file").pull(parse(f"file://{tmp_path}/layout#v1"), Store(tmp_path / "fresh"))


def test_a_right_one_comes_in_by_every_remote(store: Store, tmp_path: Path) -> None:
    good = packed({f"{LAYER}.lora_A.weight": (2, 8)})
    (tmp_path / "x").write_bytes(good)
    assert len(strict.header("x", tmp_path / "x").entries) == 1
