"""What `--strict` overlooks in a built site: links and pictures that lead nowhere, pictures without words, whatever is
loaded from elsewhere.

    python docs/check_site.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser loads by itself, and by which attribute.
LOADED = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}
#: Links that load nothing.
RELATIONS = frozenset({"canonical", "next", "prev", "alternate"})


@dataclass
class Page(HTMLParser):
    """The anchors of a page, its links, what it loads, and its pictures without words."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    mute: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.anchors |= {said[name] for name in ("id", "name") if name in said}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        if tag in LOADED and LOADED[tag] in said and said.get("rel") not in RELATIONS:
            self.loads.append(said[LOADED[tag]])
        if tag == "img" and not said.get("alt", "").strip():
            self.mute.append(said.get("src", ""))


@cache
def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def count(site: Path) -> int:
    return sum(1 for _ in site.rglob("*.html"))


def faults(site: Path) -> list[str]:
    """All that is wrong, a line each."""
    return [f"{path.relative_to(site)}: {fault}" for path in sorted(site.rglob("*.html")) for fault in _of(site, path)]


def _of(site: Path, path: Path) -> Iterator[str]:
    page = read(path)
    yield from (f"the picture `{picture}` has no words" for picture in page.mute)
    yield from (f"`{place}` is loaded from elsewhere" for place in page.loads if urlsplit(place).netloc)
    for link in {*page.links, *page.loads}:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or path.name == "404.html":
            continue
        there = _target(site, path, unquote(parts.path))
        if not there.is_file():
            yield f"`{link}` leads nowhere"
        elif parts.fragment and there.suffix == ".html" and unquote(parts.fragment) not in read(there).anchors:
            yield f"`{link}`: no such place on that page"


def _target(site: Path, path: Path, place: str) -> Path:
    if not place:
        return path
    there = (site if place.startswith("/") else path.parent) / place.lstrip("/")
    return there / "index.html" if there.is_dir() else there


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]))
    print("\n".join(found))
    sys.exit(bool(found))
