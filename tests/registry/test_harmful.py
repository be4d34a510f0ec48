"""Artifacts made to do harm, through every remote that reads what others packed (threats 1, 11 and 12)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import errors as e
from adaptr.registry import check, names, pack, strict, terms
from adaptr.registry.digest import Digest
from adaptr.registry.local_files import LocalFile
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from registry.conftest import enveloped, layer
from registry.published import LAYER, PEFT, WEIGHTS, written
from registry.servers.hub import fake_hub, meant
from registry.servers.registry import DockerRegistry
from registry.servers.safetensors import packed, raw

NAMES = (
    "../evil.json", "..\\evil.json", "a/../../evil.json", "/etc/evil.json", "//host/share/evil.json",
    "\\\\host\\evil.json",
    "C:evil.json", "C:\\evil.json", "c:/evil.json", ".evil.json", "a/.evil.json", "./evil.json", "a/./evil.json",
    "a//evil.json", "a/b/c/evil.json", "evil.json/", "..", ".", "", "con.json", "NUL.json", "a/aux.json", "com1.json",
    "LPT9.txt", "evil.json.", "evil.json ", " evil.json", "evil\n.json", "evil\x00.json", "evil\x1b[2J.json",
    "evil\u202e.json", "\uff0e\uff0e/evil.json", "evil\u2215x.json", "~/evil.json", "~root.json", "$HOME/evil.json",
    "%2e%2e/evil.json", "evil.json:stream", "evil?.json", "evil*.json", "-rf.json", "a" * 256 + ".json",
    "file://evil.json", "http://h/evil.json", "ev|il.json",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(name: str, tmp_path: Path, store: Store) -> None:
    with pytest.raises(e.UnsafeName):
        names.require(name)
    digest = _with(store, {"adapter_model.safetensors": WEIGHTS}, name)
    if digest is None:  # such an artifact can't even be recorded
        return
    before = {path for path in tmp_path.rglob("*") if "store" not in path.parts}
    for use in (store.view, lambda d: store.export(d, tmp_path / "out")):
        with pytest.raises((e.UnsafeName, e.BadManifest)):
            use(digest)
    _layout(store, digest, tmp_path / "layout")
    with pytest.raises((e.UnsafeName, e.BadManifest)):
        of("file").pull(parse(f"file://{tmp_path}/layout#v1"), Store(tmp_path / "store2"))
    made = {path for path in tmp_path.rglob("*") if not {"store", "store2", "layout"} & set(path.parts)} - before
    assert not [path for path in made if "evil" in path.name]


@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in name and name.endswith(".json")])
def test_names_on_the_hub(name: str, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_hub() as hub:
        meant(hub, monkeypatch)
        hub.add("acme/evil", {**PEFT, name: b"{}"})
        with pytest.raises(e.UnsafeName):
            of("hf").pull(parse("hf://acme/evil"), store)
        assert not hub.asked("/resolve/")


def test_names_in_a_registry(plain: DockerRegistry, repository: str, store: Store, other: Store) -> None:
    digest = _with(store, {"adapter_model.safetensors": WEIGHTS}, "../evil.json")
    assert digest is not None
    place = parse(f"oci://{plain.host}/{repository}:v1")
    of("oci").push(store, digest, place)
    with pytest.raises(e.UnsafeName):
        of("oci").pull(place, other)
    assert not other.has(Digest.of(WEIGHTS))


def _with(store: Store, files: dict[str, bytes], name: str) -> Digest | None:
    """An artifact in which one more file has this name, whatever it is."""
    layers = [layer(store, called, data) for called, data in files.items()]
    evil = Descriptor(terms.CONFIG_LAYER, store.add_bytes(b"{}"), 2, {terms.TITLE: name})
    try:
        return store.put(enveloped(store, [*layers, evil], {}))
    except e.IntegrityError:
        return None


def _layout(store: Store, digest: Digest, root: Path) -> None:
    of("file").push(store, digest, parse(f"file://{root}#v1"))


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "x/pytorch_model.pt", "w.ckpt", "w.pkl", "w.joblib", "tf_model.h5"]
)
def test_pickles_are_not_fetched(name: str, store: Store, tmp_path: Path) -> None:
    data = b"\x80\x04pickled."
    layers = [layer(store, "adapter_model.safetensors", WEIGHTS), layer(store, name, data)]
    _layout(store, store.put(enveloped(store, layers, {})), tmp_path / "layout")
    fresh = Store(tmp_path / "fresh")
    with pytest.raises(e.RefusedMediaType, match=name):
        of("file").pull(parse(f"file://{tmp_path}/layout#v1"), fresh)
    assert not fresh.has(Digest.of(data))


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
    _layout(store, digest, tmp_path / "layout")
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
    _layout(store, store.put(false), tmp_path / "layout")
    with pytest.raises(e.BadManifest, match="own file says"):
        of("file").pull(parse(f"file://{tmp_path}/layout#v1"), Store(tmp_path / "fresh"))


def test_a_right_one_comes_in_by_every_remote(store: Store, tmp_path: Path) -> None:
    good = packed({f"{LAYER}.lora_A.weight": (2, 8)})
    (tmp_path / "x").write_bytes(good)
    assert len(strict.header("x", tmp_path / "x").entries) == 1


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (("a", "a/b"), e.BadManifest),
        (("a/b", "a"), e.BadManifest),
        (("A/b", "a"), e.BadManifest),
        (("a/b/c.md", "a/B"), e.BadManifest),
        (("x.md", "X.md"), e.BadManifest),
        (("adapter_model.BIN",), e.RefusedMediaType),
        (("tokenizer.PKL",), e.RefusedMediaType),
        (("pytorch_model.bin.index.json",), e.RefusedMediaType),
        (("modeling_x.py",), e.RefusedMediaType),
        (("lib.SO",), e.RefusedMediaType),
        (("a.zip",), e.RefusedMediaType),
        (("a.7Z",), e.RefusedMediaType),
    ],
)
def test_names_that_collide_or_run_are_refused_at_pull(
    names: tuple[str, ...], error: type[e.AdaptrError], store: Store, tmp_path: Path
) -> None:
    layers = [layer(store, "adapter_model.safetensors", WEIGHTS), *(layer(store, n, n.encode()) for n in names)]
    manifest = enveloped(store, layers, {})
    with pytest.raises(error) as refused:
        check.refuse_pickles(manifest)
    assert refused.value.exit_code == 7


@pytest.mark.parametrize(
    "kind",
    [
        "application/zip", "application/x-7z-compressed", "application/x-tar", "application/vnd.x+zstd",
        "application/vnd.oci.image.layer.v1.tar+gzip", "application/gzip", "application/x-bzip2", "application/vnd.rar",
        "application/x-xz", "Application/ZIP",
    ],
)  # fmt: skip
def test_archives_are_refused_by_type(kind: str, store: Store) -> None:
    part = Descriptor(kind, store.add_bytes(b"x"), 1, {terms.TITLE: "a.json"})
    with pytest.raises(e.RefusedMediaType):
        check.refuse_pickles(enveloped(store, [part], {}))


def tar(form: int) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        archive.addfile(tarfile.TarInfo("../evil.sh"), io.BytesIO())
    return raw.getvalue()


def zipped() -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("../evil.sh", "")
    return raw.getvalue()


USTAR = tar(tarfile.USTAR_FORMAT)
#: The header of tar before POSIX: no magic, and a checksum without it.
V7 = bytearray(USTAR[:257] + bytes(255) + USTAR[512:])
V7[148:156] = b"%06o\0 " % (sum(V7[:148]) + 8 * 32 + sum(V7[156:512]))
ARCHIVES = {
    "ustar": USTAR, "gnu": tar(tarfile.GNU_FORMAT), "pax": tar(tarfile.PAX_FORMAT), "v7": bytes(V7), "zip": zipped(),
    "gzip": gzip.compress(USTAR), "bzip2": bz2.compress(USTAR), "xz": lzma.compress(USTAR),
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(26), "rar": b"Rar!\x1a\x07\x00", "zstd": b"\x28\xb5\x2f\xfd\x00",
}  # fmt: skip
ORAS = "application/vnd.oci.image.layer.v1.tar"


@pytest.mark.parametrize("kind", [ORAS, terms.DOC_LAYER, "text/plain"])
@pytest.mark.parametrize("form", ARCHIVES)
def test_archives_are_refused_by_their_bytes(form: str, kind: str, store: Store, tmp_path: Path) -> None:
    """ORAS calls plain files tar, and anybody may call a tar plain: neither name nor type tells."""
    data = ARCHIVES[form]
    part = Descriptor(kind, store.add_bytes(data), len(data), {terms.TITLE: "README.md"})
    _layout(
        store,
        store.put(enveloped(store, [layer(store, "adapter_model.safetensors", WEIGHTS), part], {})),
        tmp_path / "l",
    )
    fresh = Store(tmp_path / "fresh")
    with pytest.raises(e.RefusedMediaType, match="archive by its bytes") as refused:
        of("file").pull(parse(f"file://{tmp_path}/l#v1"), fresh)
    assert refused.value.exit_code == 7


@pytest.mark.parametrize(
    "data", [b"", b"# a card", b"x" * 600, b"BZh is a name", "ж".encode() * 400, b"\0" * 512, b"0" * 512]
)
def test_plain_files_that_are_called_tar_are_taken(data: bytes, store: Store, tmp_path: Path) -> None:
    layers = [
        Descriptor(ORAS, store.add_bytes(raw), len(raw), {terms.TITLE: name})
        for name, raw in (("adapter_model.safetensors", WEIGHTS), ("README.md", data))
    ]
    _layout(store, store.put(enveloped(store, layers, {})), tmp_path / "l")
    of("file").pull(parse(f"file://{tmp_path}/l#v1"), Store(tmp_path / "fresh"))


def test_many_layers_cost_little_and_too_many_are_refused(store: Store) -> None:
    digest = store.add_bytes(b"x")

    def of(count: int) -> Manifest:
        return enveloped(
            store, [Descriptor(terms.DOC_LAYER, digest, 1, {terms.TITLE: f"a{n}.md"}) for n in range(count)], {}
        )

    started = time.process_time()
    assert len(of(4000).files()) == 4000
    assert time.process_time() - started < 2
    with pytest.raises(e.BadManifest, match="wanted at most"):
        of(23_000)


def test_what_failed_leaves_nothing_behind(store: Store) -> None:
    digest = store.put(enveloped(store, [layer(store, n, n.encode()) for n in ("a", "a/b")], {}))
    for _ in range(3):
        with pytest.raises(e.BadManifest):
            store.view(digest)
    assert not list((store.root / "ingest").iterdir())


def test_what_others_left_goes_by_age(store: Store, other: Store) -> None:
    folder = store.root / "ingest"
    (folder / "view.1.x").mkdir()
    for name in ("old.part", "new.part", "view.1.x"):
        path = folder / name
        path.is_dir() or path.write_bytes(b"x")
        if name != "new.part":
            os.utime(path, (1, 1))
    digest = other.add_bytes(b"data")
    store.fetch(Descriptor(terms.OCTETS, digest, 4), LocalFile(other.path(digest)).read)
    assert [path.name for path in folder.iterdir()] == ["new.part"]
