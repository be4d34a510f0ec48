"""What `make oracles` found, out of the results that are kept beside each tool's programs."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2] / "oracles"
HEAD = """\
## In the tools themselves

`make oracles` runs each tool, in an environment of its own: it loads what adaptr writes, or writes files itself, which
adaptr reads and merges. The largest error is of all cases, the limit the loosest of any; each case has both in the
tool's `result.json` in [oracles](../oracles/run.py), with what the adapter changes. Continuous integration runs gguf,
mlx and loralib.

| tool | versions | on | cases | largest error | limit | what is compared |
| --- | --- | --- | --- | --- | --- | --- |
"""
#: What every environment has, and tells nothing of the tool.
_COMMON = ("accelerate", "numpy", "safetensors", "torch")

#: What has a page of its own: docs/hosts.md.
_APART = frozenset({"hosts"})


def page(root: Path = ROOT) -> str:
    return HEAD + "".join(f"| {' | '.join(line)} |\n" for line in sorted(_lines(root)))


def _lines(root: Path) -> Iterator[list[str]]:
    for file in (file for file in root.glob("*/result*.json") if file.parent.name not in _APART):
        kept: dict[str, Any] = json.loads(file.read_text("utf-8"))
        required = file.with_name(file.stem.replace("result", "requirements") + ".txt").read_text("utf-8")
        names = [line.partition("=")[0].partition("[")[0] for line in _named(required)]
        versions = [f"{name} {kept['versions'][name]}" for name in names if name not in _COMMON]
        errors, limits = zip(*((case["error"], case["limit"]) for case in kept["cases"].values()), strict=True)
        numbers = [str(len(errors)), f"{max(errors):.0e}", f"{max(limits):.0e}"]
        yield [kept["tool"], ", ".join(versions), kept["date"], *numbers, _compared(file.parent)]


def _named(required: str) -> list[str]:
    """The tool, without what a remark behind it says that it needs."""
    lines = required.removeprefix("#").splitlines() if required.startswith("#") else ["", *required.splitlines()]
    return list(itertools.takewhile(lambda line: not line.startswith("#"), lines[1:]))


def _compared(tool: Path) -> str:
    said = ast.get_docstring(ast.parse((tool / "check.py").read_text("utf-8"))) or ""
    return " ".join(said.partition("check.py FOLDER")[0].split()).removesuffix(".")
