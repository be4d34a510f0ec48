"""The site: what its navigation has, and what is looked at in what was built. `make site` builds it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import build_site
import check_site

ROOT = Path(__file__).resolve().parents[1]
HEAD = '<link rel="canonical" href="https://elsewhere.example/">'


def page(folder: Path, name: str, body: str) -> None:
    file = folder / name / "index.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<html><head>{HEAD}</head><body>{body}</body></html>")


def leaves(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for one in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from leaves(one)


def test_every_document_is_in_the_navigation() -> None:
    text = build_site.spread((ROOT / "docs" / "zensical.toml").read_text("utf-8"))
    said = tomllib.loads(text)["project"]["nav"]
    documents = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert documents - set(leaves(said)) == set(), "say in docs/zensical.toml where they are"
    assert [path for path in leaves(said) if not (ROOT / path).is_file()] == []


def test_what_pages_link_to_goes_along() -> None:
    laid = build_site.pages()
    assert {Path("docs/pictures/view.svg"), Path("registry_spec/schemas/lock.schema.json")} <= laid
    assert all((ROOT / path).is_file() for path in laid)


def test_a_site_without_fault(tmp_path: Path) -> None:
    page(
        tmp_path, "", '<h1 id="top">A</h1><a href="b/#here">b</a><a href="#top">up</a><a href="https://a.example">x</a>'
    )
    page(tmp_path, "b", '<p id="here"></p><a href="../">a</a><img src="../p.svg" alt="words">')
    (tmp_path / "p.svg").touch()
    assert check_site.faults(tmp_path) == []
    assert check_site.count(tmp_path) == 2


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    page(tmp_path, "", '<a href="c/">c</a><a href="b/#there">b</a><a href="/docs/">d</a>')
    page(
        tmp_path,
        "b",
        '<img src="no.svg" alt="words"><img src="../p.svg" alt=""><script src="https://cdn.example/x.js">',
    )
    (tmp_path / "p.svg").touch()
    assert sorted(check_site.faults(tmp_path)) == [
        "b/index.html: `https://cdn.example/x.js` is loaded from elsewhere",
        "b/index.html: `no.svg` leads nowhere",
        "b/index.html: the picture `../p.svg` has no words",
        "index.html: `/docs/` leads nowhere",
        "index.html: `b/#there`: no such place on that page",
        "index.html: `c/` leads nowhere",
    ]
