"""Archives, and very many layers, that others packed: refused, and nothing is left behind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from adaptr import errors as e
from adaptr.registry import check, terms
from adaptr.registry.local_files import LocalFile
from adaptr.registry.manifest import Descriptor, Manifest
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from registry.conftest import enveloped, layer
from registry.harmful.packed import laid_out
from registry.published import WEIGHTS


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
    laid_out(
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
    laid_out(store, store.put(enveloped(store, layers, {})), tmp_path / "l")
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
