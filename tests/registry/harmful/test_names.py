"""Names that lead elsewhere, collide or run, through every remote that reads what others packed (threats 1 and 11)."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptr import errors as e
from adaptr.registry import check, names
from adaptr.registry.digest import Digest
from adaptr.registry.reference import parse
from adaptr.registry.remotes import of
from adaptr.registry.store import Store
from registry.conftest import enveloped, layer
from registry.harmful.packed import laid_out, with_a_file_called
from registry.published import PEFT, WEIGHTS
from registry.servers.hub import fake_hub, meant
from registry.servers.registry import DockerRegistry

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
    digest = with_a_file_called(store, {"adapter_model.safetensors": WEIGHTS}, name)
    if digest is None:  # such an artifact can't even be recorded
        return
    before = {path for path in tmp_path.rglob("*") if "store" not in path.parts}
    for use in (store.view, lambda d: store.export(d, tmp_path / "out")):
        with pytest.raises((e.UnsafeName, e.BadManifest)):
            use(digest)
    laid_out(store, digest, tmp_path / "layout")
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
    digest = with_a_file_called(store, {"adapter_model.safetensors": WEIGHTS}, "../evil.json")
    assert digest is not None
    place = parse(f"oci://{plain.host}/{repository}:v1")
    of("oci").push(store, digest, place)
    with pytest.raises(e.UnsafeName):
        of("oci").pull(place, other)
    assert not other.has(Digest.of(WEIGHTS))


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "x/pytorch_model.pt", "w.ckpt", "w.pkl", "w.joblib", "tf_model.h5"]
)
def test_pickles_are_not_fetched(name: str, store: Store, tmp_path: Path) -> None:
    data = b"\x80\x04pickled."
    layers = [layer(store, "adapter_model.safetensors", WEIGHTS), layer(store, name, data)]
    laid_out(store, store.put(enveloped(store, layers, {})), tmp_path / "layout")
    fresh = Store(tmp_path / "fresh")
    with pytest.raises(e.RefusedMediaType, match=name):
        of("file").pull(parse(f"file://{tmp_path}/layout#v1"), fresh)
    assert not fresh.has(Digest.of(data))


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
