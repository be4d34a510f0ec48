"""docs/api.md: the package's names, each by its docstring, which the site puts in."""

from __future__ import annotations

import inspect

import adaptr
from adaptr import api
from pages.markdown import table

GROUPS = {
    "Files": "load source save inspect diff convert convert_method resize quantize quantize_file",
    "Live models": "create attach train checkpointing stack pool apply",
    "Training and measuring": "fit plan evaluate learn",
    "Composing": "compose tune",
    "Merging": "merge unmerge verify extract",
    "Serving": "check serve",
    "Sharing": "pull push tag list search sign log",
}
CLASSES = {"Adapter": "adaptr.adapter", "Target": "adaptr.adapter", "Request": "adaptr.runtime.pool"}
WIDTH = 90
HEAD = """\
# Python

Everything that the command line does, by the same words: `adaptr.merge` is `adaptr merge`. Names are imported when
they are first used. What authors of plugins import is in the [contract](hooks.md) and
in [contributing](../CONTRIBUTING.md).
"""


def page() -> str:
    groups = {**GROUPS, "More": " ".join(sorted(set(api.HOME) - set(" ".join(GROUPS.values()).split())))}
    named = [name for names in groups.values() for name in names.split()]
    rows = [(f"[`adaptr.{name}`](#{name})", _first(name)) for name in named]
    parts = [HEAD, table(("name", "what"), rows)]
    for title, names in groups.items():
        parts += [f"## {title}\n"] if names else []
        parts += [_section(name, f"{api.HOME[name]}.{name}") for name in names.split()]
    parts.append("## Classes\n")
    parts += [_section(name, f"{room}.{name}") for name, room in CLASSES.items()]
    return "\n".join(parts)


def _section(name: str, path: str) -> str:
    """`py` and not `python`: it shows how a function is called, and is no program."""
    return f"### {name}\n\n```py\n{_called(name)}\n```\n\n::: {path}\n"


def _called(name: str) -> str:
    """How a function or class is called, a parameter a line where it is long."""
    signature = inspect.signature(getattr(adaptr, name))
    given = [str(one).replace("'", "") for one in signature.parameters.values()]
    kinds = [one.kind for one in signature.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        given.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    back = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    line = f"adaptr.{name}({', '.join(given)}){back}".replace("'", "")
    return line if len(line) <= WIDTH else "\n".join([f"adaptr.{name}(", *(f"    {one}," for one in given), f"){back}"])


def _first(name: str) -> str:
    said = inspect.getdoc(getattr(adaptr, name)) or ""
    return " ".join(said.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".:")
