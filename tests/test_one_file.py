"""A method is one file of at most 120 lines, its documentation apart, that imports no torch, and nobody else in the
package has heard of it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import house
from parsed import ROOT, parsed

LONG = 120
#: Files from before that promise, with how long they may be; may only fall, and none may come.
LONGER = {"adalora": 154, "dora": 160, "oft": 151, "trainable_tokens": 124}
#: Names that are words for other things (a change in full, a text, a pile, a field), or what something is written as.
WORDS = frozenset({"full", "stack", "prompt", "rslora", "lora", "loha"})
#: Who may name methods: themselves, and the formats of others, which are tables of them.
KNOW = ("plugins/adaptr_plugins/", "plugins/adaptr_formats/", "adaptr/foreign/")
COSTLY = {"torch", "numpy", "transformers", "safetensors"}
FILES = sorted((ROOT / "plugins/adaptr_plugins").glob("*/[!_]*.py"))
METHODS = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@METHODS
def test_it_is_short(file: Path) -> None:
    assert code(file.read_text("utf-8")) <= LONGER.get(file.stem, LONG)


@METHODS
def test_it_imports_nothing_costly_at_its_top(file: Path) -> None:
    assert not COSTLY & set(imported(ast.parse(file.read_text("utf-8"))))


def test_neither_does_what_they_import() -> None:
    code = (
        "import sys, importlib; [importlib.import_module(name) for name in sys.argv[2:]]; "
        "print(sorted(set(sys.argv[1].split()) & set(sys.modules)))"
    )
    names = [f"adaptr_plugins.{file.parent.name}.{file.stem}" for file in FILES]
    line = [sys.executable, "-c", code, " ".join(COSTLY), *names]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nobody_else_names_one_or_imports_it() -> None:
    assert heard_of() <= WORDS


def test_who_names_or_imports_one_is_found(tmp_path: Path) -> None:
    for path, text in {
        "plugins/adaptr_plugins/delta/halves.py": 'name = "halves"\n',
        "plugins/adaptr_plugins/delta/thirds.py": "import torch\nfrom adaptr_plugins.delta.halves import Halves\n",
        "adaptr/a.py": '"""halves"""\nif x in {"halves"}: ...\n',
        "adaptr/b.py": "from adaptr_plugins.delta import thirds\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert heard_of(tmp_path) == {"halves", "thirds"}
    assert code('"""One.\n\nTwo.\n"""\n\nx = 1\n') == 2
    assert "torch" in imported(ast.parse((tmp_path / "plugins/adaptr_plugins/delta/thirds.py").read_text()))


def code(text: str) -> int:
    """The lines of a file below the text that its documentation is made of."""
    return len(text.splitlines()) - (ast.parse(text).body[0].end_lineno or 0)


def heard_of(root: Path = ROOT) -> set[str]:
    """The methods that a text or an import somewhere in the package names, outside of documentation."""
    methods, found = house.methods(root), set()
    for path, tree in parsed(root).items():
        if path.startswith(KNOW):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} & methods
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adaptr_plugins"):
                names = [*(node.module or "").split("."), *(one.name for one in node.names)]
                found |= {name.replace("_", "-") for name in names} & methods
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """The packages that a module imports when it is imported: not for types alone, and not in functions."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
