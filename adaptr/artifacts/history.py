"""Where an adapter or a merged checkpoint comes from: its lineage, followed by digest as far as the files are at hand.

A parent is named by the digest of its weights, the same in every format, and by that of its file. What was ever pulled
or tagged is found in the store; otherwise it may lie beside its child. What is nowhere is still named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from adaptr.adapter import Adapter
from adaptr.artifacts.beside import base_beside
from adaptr.artifacts.finding import STORE, Search
from adaptr.errors import AdaptrError, InputError
from adaptr.errors.called import called
from adaptr.files.home import home
from adaptr.format import digest as digests
from adaptr.merging import receipt
from adaptr.registry.store import Store
from adaptr.report import Report
from adaptr.sources.given import Given, label, one
from adaptr.sources.open import MEMORY, Opened, open_adapter
from adaptr.sources.resolve import Source

#: Ancestors that are followed.
MOST = 1000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Node:
    """One artifact of a history. `digest`: of its file, of its weights where it never was one; `weights`: of these, ""
    if not known; `found`: where it is, "" if not here; `parents`: digests; `adapter`: where it was opened.
    """

    digest: str
    name: str
    operation: str
    what: str
    arguments: Mapping[str, Any]
    found: str
    parents: tuple[str, ...]
    role: str = ""
    weights: str = ""
    adapter: Adapter | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "adapter"}


@dataclass(frozen=True)
class History(Report):
    """All nodes, each before its parents; `cut`: whether there were more than are followed."""

    nodes: Sequence[Node]
    cut: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"nodes": [node.as_dict() for node in self.nodes], "cut": self.cut}


def log(source: Given) -> History:
    """The lineage of `source`, an adapter or a merged checkpoint, followed by digest. Raises `InputError` where there
    is neither an adapter nor a receipt.
    """
    what = one(source)
    search = Search(Store(home() / "store") if (home() / "store").is_dir() else None)
    nodes: dict[str, Node] = {}
    path = what.path if isinstance(what, Source) else None
    if path is not None and _has_receipt(path):
        first = _merged(path, label(what), nodes)
    else:
        first = _adapter(open_adapter(what), label(what), nodes)
    queue: list[tuple[str, tuple[Path, ...]]] = [(parent, _folders(path)) for parent in first.parents]
    cut, seen = False, {first.digest}
    around = {first.digest: _folders(path)}
    read: set[str] = set()
    while queue:
        digest, beside = queue.pop()
        node = nodes[digest]
        if digest in seen:
            continue
        seen.add(digest)
        if node.found or not _DIGEST.fullmatch(digest):
            queue += [(parent, beside) for parent in node.parents]
            continue
        if len(seen) > MOST:
            cut = True
            break
        path, found = search.find((digest, node.weights), beside)
        made = _follow(path, found, node, nodes, read)
        near = (path.parent, *beside) if path is not None and found != STORE else beside
        queue += [(parent, near) for parent in made.parents]
        around[digest] = near
    _find_bases(around, nodes)
    return History(_ordered(first.digest, nodes), cut)


def _find_bases(around: Mapping[str, Sequence[Path]], nodes: dict[str, Node]) -> None:
    """Bases that lie beside what was trained on them, or extracted from or merged into them."""
    merged = [parent for node in nodes.values() if node.operation == "merge" for parent in _bases(node, nodes)]
    known: dict[str, str] = {}
    kept = (home() / "store").resolve()  # which shows nobody its places
    for digest, around_it in around.items():
        folders = [folder for folder in around_it if not folder.resolve().is_relative_to(kept)]
        node = nodes[digest]
        last = not any(nodes[parent].adapter for parent in node.parents)  # of those that could be read
        own = _bases(node, nodes) or (merged if last else [])
        found = base_beside(node.adapter, folders) if node.adapter and (own or last) else None
        if node.adapter is None or found is None:
            continue
        key = known.setdefault(str(found), own[0] if own else node.adapter.base.content)
        nodes[key] = Node(key, found.name, "", "checkpoint", {}, str(found), (), "base")
        if not own:
            nodes[digest] = replace(node, parents=(*node.parents, key))


def _bases(node: Node, nodes: Mapping[str, Node]) -> list[str]:
    return [parent for parent in node.parents if nodes[parent].role == "base"]


def _folders(path: Path | None) -> tuple[Path, ...]:
    """Where the parents of what is at `path` may lie."""
    if path is None:
        return ()
    return (*_receipts(path), path, path.parent) if path.is_dir() else (path.parent,)


def _follow(path: Path | None, found: str, known: Node, nodes: dict[str, Node], read: set[str]) -> Node:
    """The node of a parent: read if its file is here, else what its child said of it.

    A file found by its weights alone is a copy. What it says of its parents counts once, which `read` remembers: a
    conversion has the weights of its parent, and would be taken for its own ancestor.
    """
    if path is None:
        return known
    nodes[known.digest] = replace(known, found=found)
    try:
        opened = open_adapter(path, tell=False)
    except AdaptrError:  # a file of another tool, alone: its lineage is not in it
        return nodes[known.digest]
    digest = opened.digest
    if digest != known.digest and digest in read | nodes.keys():
        return nodes[known.digest]
    read.add(digest)
    return _adapter(opened, found, nodes, known)


def _adapter(opened: Opened, found: str, nodes: dict[str, Node], known: Node | None = None) -> Node:
    """Put an adapter into `nodes`, and what it says of its parents."""
    adapter, file = opened.adapter, opened.file
    # in memory it is no file, and may have the weights of its parent
    own = f"{MEMORY}:{digests.of_adapter(adapter)}" if file is None else opened.digest
    digest = known.digest if known else own
    lineage = adapter.lineage
    # a copy that was made of it in memory names it by the weights that both have
    parents = tuple(parent for parent in _named(lineage.get("parents", []), nodes) if parent != digest)
    what = f"{adapter.method}{'' if opened.format == 'adaptr' else f' ({opened.format})'}"
    name = adapter.name or (known.name if known else "") or _file_name(opened)
    arguments = lineage.get("arguments", {})
    node = Node(
        digest,
        name,
        str(lineage.get("operation", "")),
        what,
        arguments if isinstance(arguments, Mapping) else {},
        found,
        parents,
        known.role if known else "",
        digests.of_adapter(adapter),
        adapter,
    )
    nodes[digest] = node
    return node


def _file_name(opened: Opened) -> str:
    """What the file is called, and of another tool, which calls all its files alike, the folder."""
    if opened.file is None:
        return ""
    return Path(called(opened.file if opened.format == "adaptr" else opened.file.parent)).name


def _named(parents: object, nodes: dict[str, Node]) -> Iterator[str]:
    """The digests of parents; what their child says of them is kept until their file is found."""
    for entry in parents if isinstance(parents, list) else []:
        if not isinstance(entry, Mapping):
            continue
        weights = str(entry.get("weights", ""))
        weights = weights if _DIGEST.fullmatch(weights) else ""
        digest = str(entry.get("digest") or weights or entry.get("content") or entry.get("config") or "")
        role = str(entry.get("role", ""))
        name = str(entry.get("name") or entry.get("id") or "")
        key = digest or f"{role}:{name}"
        if key == ":":
            continue
        nodes.setdefault(key, Node(key, name, "", str(entry.get("format", "")), {}, "", (), role, weights))
        yield key


# ---------------------------------------------------------------- merged checkpoints


def _has_receipt(source: Path) -> bool:
    return (receipt.place(source) / receipt.FILE).is_file()


def _receipts(folder: Path) -> list[Path]:
    """The receipt's folder of a checkpoint, and those of merges before: adapters lie beside receipts."""
    found: list[Path] = []
    at = receipt.place(folder)
    while (at / receipt.FILE).is_file() and len(found) < MOST:
        found.append(at)
        at = at / receipt.PARENT
    return found


def _merged(source: Path, given: str, nodes: dict[str, Node]) -> Node:
    """A merged checkpoint: its adapters and its base, which may have been merged itself."""
    made: Node | None = None
    papers = [receipt.read_from(folder / receipt.FILE) for folder in _receipts(source)]
    below = _base(papers[-1], nodes)
    for number, paper in reversed(list(enumerate(papers))):
        parents = [below, *_named(paper.adapters, nodes)]
        weights = [entry["weight"] for entry in paper.adapters]
        digest = digests.of_file(paper.path)
        place = given if number == 0 else ""
        what = "checkpoint" if number == 0 else "checkpoint, by its receipt"
        made = Node(
            digest,
            Path(called(source)).name if number == 0 else "",
            "merge",
            what,
            {"weights": weights},
            place or "receipt",
            tuple(parents),
        )
        nodes[digest] = made
        below = digest
    assert made is not None
    return made


def _base(paper: receipt.Receipt, nodes: dict[str, Node]) -> str:
    """The base below all merges: named by its configuration, or by the headers of its files."""
    base = paper.document["base"]
    digest = str(base.get("config") or next(iter(base["headers"].values()), "base:"))
    nodes[digest] = Node(digest, "base", "", "checkpoint", {}, "", (), "base")
    return digest


def _ordered(first: str, nodes: Mapping[str, Node]) -> list[Node]:
    """Every node before its parents, each line of descent together. Raises `InputError` for a circle."""
    order: list[str] = []
    state: dict[str, int] = {}
    stack: list[tuple[str, bool]] = [(first, False)]
    while stack:
        digest, done = stack.pop()
        if done:
            state[digest] = 2
            order.append(digest)
        elif state.get(digest) == 1:
            raise InputError(
                f"the lineage of {first} leads back to {digest}: it can't have been its own parent",
                hint="one of them says what is not so: ask who made it",
            )
        elif digest not in state:
            state[digest] = 1
            stack.append((digest, True))
            stack += [(parent, False) for parent in nodes[digest].parents if state.get(parent) != 2]
    return [nodes[digest] for digest in reversed(order)]
