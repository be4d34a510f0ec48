"""Search in the store, in layouts, and in the index that a namespace publishes on a real registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import adaptr
from adaptr import api
from adaptr.artifacts import search as ops
from adaptr.errors import BadManifest, BadReference, NotFound, UsageError
from adaptr.registry import search, terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor
from adaptr.registry.reference import parse
from adaptr.registry.remotes import Found, of
from adaptr.registry.store import Store
from registry.published import written
from registry.servers.registry import DockerRegistry


@pytest.fixture
def style(tmp_path: Path) -> Path:
    return written(tmp_path / "style")


def references(found: object) -> list[str]:
    return [one.reference for one in found.found]  # type: ignore[attr-defined]


def test_all_words_must_be_somewhere_and_names_come_first() -> None:
    found = [
        Found("oci://h/b:1", "", "", {terms.BASE_MODEL: "acme/Llama"}),
        Found("oci://h/llama-sql:1", "", "", {}),
        Found("oci://h/c:1", "", "", {terms.DESCRIPTION: "sql"}),
    ]
    assert [one.reference[8:] for one in search.fitting(found, ["LLAMA"])] == ["llama-sql:1", "b:1"]
    assert [one.reference[8:] for one in search.fitting(found, ["llama", "sql"])] == ["llama-sql:1"]


def test_the_store(style: Path) -> None:
    from adaptr.artifacts import handling

    handling.tag(str(style), "blue:1")
    handling.tag(str(style), "green:1")
    assert references(ops.search(["gre"])) == ["green:1"]
    assert references(ops.search(["lora", "acme/base"])) == ["blue:1", "green:1"]
    assert references(ops.search(["nothing"])) == []


def test_a_layout(style: Path, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/layout"
    for tag in ("blue", "green"):
        api.push(str(style), f"{place}#{tag}")
    assert references(ops.search(["gre"], place)) == [f"{place}#green"]


def test_a_layout_is_searched_by_its_path(style: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    api.push(str(style), f"file://{tmp_path}/layout#green")
    for place in ("layout", tmp_path / "layout", adaptr.sources.resolve.resolve("layout")):
        assert references(ops.search(["gre"], place)) == [f"file://{tmp_path}/layout#green"]
    (tmp_path / "hf").mkdir()
    with pytest.raises(NotFound, match="no OCI layout"):
        ops.search(["gre"], "hf")  # a path that exists is that path


def test_what_can_not_be_searched() -> None:
    with pytest.raises(UsageError, match="can't be searched"):
        ops.search(["x"], "somewhere")
    with pytest.raises(BadReference):
        ops.search(["x"], "oci://")
    with pytest.raises(UsageError, match="no namespace"):
        ops.build("hf://acme")


def test_an_index_is_built_published_and_searched(
    plain: DockerRegistry, repository: str, style: Path, tmp_path: Path, made: Callable[..., Digest]
) -> None:
    place = f"oci://{plain.host}/{repository}"
    first = api.push(str(style), f"{place}/style:1.0")
    api.push(str(style), f"{place}/style:1.1")
    api.push(str(style), f"{place}/deep/other:2")
    with pytest.raises(NotFound, match="index build"):
        ops.search(["style"], place)
    built = ops.build(place)
    assert (built.artifacts, built.repositories, built.skipped) == (3, 2, 0)
    assert built.digest == ops.build(place).digest
    answers = ops.search(["style", "lora"], place)
    assert references(answers) == [f"{place}/style:1.0", f"{place}/style:1.1"]
    assert answers.found[0].digest == first.digest
    assert of("oci").resolve(parse(answers.found[0].reference)) == first.digest
    assert ops.build(place, ["deep/other"]).artifacts == 1
    assert references(ops.search(["style"], place)) == []


def test_attachments_and_other_artifacts_are_left_out(
    plain: DockerRegistry, repository: str, style: Path, store: Store
) -> None:
    place = f"oci://{plain.host}/{repository}"
    digest = Digest(api.push(str(style), f"{place}/style:1.0").digest)
    remote, mine = of("oci"), Store.default()
    remote.push(mine, digest, parse(f"{place}/style:sha256-{digest.hex}"))
    config = mine.add_bytes(b"{}")
    from adaptr.registry.manifest import Manifest

    image = Manifest.make(Descriptor(terms.OCI_EMPTY, config, 2), [], "application/vnd.example", {})
    remote.push(mine, mine.put(image), parse(f"{place}/style:image"))
    built = ops.build(place)
    assert (built.artifacts, built.skipped) == (1, 1)


@pytest.mark.parametrize(
    "document",
    [b"{}", b"[]", b'{"version":2,"artifacts":[]}', b'{"version":1,"artifacts":[{"reference":1}]}', b"\xff"],
)
def test_a_damaged_index_is_refused(store: Store, document: bytes) -> None:
    manifest = search.stored(search.Built((), 0), store)
    layer = Descriptor(terms.INDEX_ARTIFACT, store.add_bytes(document), len(document))
    from adaptr.registry.manifest import Manifest

    broken = Manifest.make(manifest.config, [layer], terms.INDEX_ARTIFACT, manifest.annotations)
    with pytest.raises(BadManifest):
        search.read(broken, store)


def test_the_same_artifacts_make_the_same_index(store: Store) -> None:
    found = Found("oci://h/a:1", "sha256:" + "0" * 64, "", {terms.KIND: "adapter"})
    manifest = search.stored(search.Built((found,), 0), store)
    assert manifest.digest == search.stored(search.Built((found,), 3), store).digest
    assert search.read(manifest, store) == [found]
    assert json.loads(store.read(manifest.layers[0].digest))["version"] == 1
