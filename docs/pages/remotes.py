"""docs/remotes.md: where adapters come from and go to, by the file of each remote."""

from __future__ import annotations

import ast

from adaptr.registry import remotes
from adaptr.registry.remotes import Remote
from pages.markdown import table

HEAD = """\
# Remotes

What a reference begins with says which remote it is of; wherever a path goes, a reference goes too. One of your own is
a file ([how](../CONTRIBUTING.md#a-remote-in-one-file)). The grammar of references is in the
[specification](../registry_spec/artifacts.md#1-names).
"""
#: What a remote may do, by the method that does it.
CAN = {"pull": "pull", "push": "push", "info": "info", "search": "search"}


def page() -> str:
    names = sorted(remotes.SORT.files())
    rows = [(f"[`{name}://`](#{name})", *_can(name), _documented(name).partition("\n\n")[0]) for name in names]
    sections = (f"\n## {name}\n\n{_documented(name)}\n" for name in names)
    return f"{HEAD}\n{table(('remote', *CAN, 'what'), rows)}{''.join(sections)}"


def _can(name: str) -> list[str]:
    kind = type(remotes.of(name))
    return ["yes" if getattr(kind, method) is not getattr(Remote, method) else "" for method in CAN.values()]


def _documented(name: str) -> str:
    tree = ast.parse(remotes.SORT.sources()[name].read_text("utf-8"))
    said = (ast.get_docstring(tree) or "").partition(": ")[2]
    return said[:1].upper() + said[1:]
