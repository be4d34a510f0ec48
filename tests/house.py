"""The house in numbers: kinds, families and methods that are named where nobody should know them, `Any` in signatures,
errors that are one sentence, circles of imports, lines a room, files that are too long.

    python tests/house.py [ROOT]

`tests/test_house.py` holds what must stay at zero, and what may only fall.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from adaptr import errors
from adaptr.adapter import kinds
from circles import circles
from parsed import ROOT, files, last, parsed

KINDS = kinds.ALL
#: Kinds that are no other word: naming one anywhere is naming a kind.
PLAIN = frozenset({"linear_t", "conv1d", "conv2d", "conv3d", "experts_t"})
FAMILIES = frozenset({"delta", "transform", "insert", "prompt", "select", "gate", "composite"})
#: The classes of families, which nobody else asks for: `Delta` ...
OF_A_FAMILY = "Delta Transform Insert Tokens SoftPrompt Prefix SelectBias Gate Composite"
#: The contract, which says what the words mean; the sites, which put adapters where a kind says; the methods.
KNOW_KINDS = (
    "adaptr/adapter/kinds.py",
    "adaptr/targets/",
    "adaptr/host/",
    "adaptr/sites/",
    "plugins/adaptr_plugins/",
)
KNOW_FAMILIES = ("adaptr/families/", "plugins/adaptr_plugins/")
#: Formats of others are tables of methods by nature.
KNOW_METHODS = (
    "adaptr/foreign/",
    "plugins/adaptr_plugins/",
    "plugins/adaptr_formats/",
)


def methods(root: Path = ROOT) -> frozenset[str]:
    found = (root / "plugins/adaptr_plugins").glob("*/*.py")
    return frozenset(file.stem.replace("_", "-") for file in found if not file.stem.startswith("_"))


def unchosen(root: Path = ROOT) -> list[str]:
    """Files of methods whose docstring has no paragraph, behind the first, that begins with `Choose it`: what it
    is good for, what it costs and where it fails.
    """
    found = {path: tree for path, tree in parsed(root).items() if Path(path).match("plugins/adaptr_plugins/*/[!_]*.py")}
    said = {path: (ast.get_docstring(tree) or "").split("\n\n")[1:] for path, tree in found.items()}
    return [path for path, parts in said.items() if not any(part.startswith("Choose it") for part in parts)]


# ---------------------------------------------------------------- words that only some may know


def kinds_named(root: Path = ROOT) -> list[str]:
    return _named(root, KNOW_KINDS, _kinds)


def families_named(root: Path = ROOT) -> list[str]:
    return _named(root, KNOW_FAMILIES, _families)


def methods_named(root: Path = ROOT) -> list[str]:
    """Where a method is chosen by its name; what an argument is when nothing is said, is no choice."""
    known = methods(root)
    return _named(root, KNOW_METHODS, lambda tree: _compared(tree, "method", known))


def _named(root: Path, allowed: tuple[str, ...], find: object) -> list[str]:
    found = []
    for path, tree in parsed(root).items():
        if not path.startswith(allowed):
            found += [f"{path}:{line}" for line in sorted(set(find(tree)))]  # type: ignore[operator]
    return found


def _kinds(tree: ast.Module) -> Iterator[int]:
    yield from (n.lineno for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in PLAIN)
    yield from _compared(tree, "kind", KINDS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Set | ast.Tuple | ast.List) and len(node.elts) > 1 and _texts(node) <= KINDS:
            yield node.lineno
        if isinstance(node, ast.Call) and last(node.func) == "Target" and len(node.args) > 1:
            yield from (n.lineno for n in ast.walk(node.args[1]) if isinstance(n, ast.Constant) and n.value in KINDS)


def _families(tree: ast.Module) -> Iterator[int]:
    yield from _compared(tree, "family", FAMILIES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Set | ast.Tuple | ast.List) and len(node.elts) > 1 and _texts(node) <= FAMILIES:
            yield node.lineno
        asks = isinstance(node, ast.Call) and last(node.func) in {"isinstance", "issubclass"}
        if asks and {last(n) for n in ast.walk(node.args[1])} & frozenset(OF_A_FAMILY.split()):
            yield node.lineno


def _compared(tree: ast.Module, what: str, words: frozenset[str]) -> Iterator[int]:
    """Lines on which something called `what` is held against one of `words`, or one of them is looked up."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asked = any(what in (last(n) or "") for side in sides for n in ast.walk(side))
            if asked and any(isinstance(n, ast.Constant) and n.value in words for s in sides for n in ast.walk(s)):
                yield node.lineno
        if isinstance(node, ast.Dict) and node.keys and _texts(node) and _texts(node) <= words:
            yield node.lineno


def _texts(node: ast.Set | ast.Tuple | ast.List | ast.Dict) -> frozenset[str]:
    """The texts of a display; one that is none, or that is made, is no word of anybody."""
    elements = node.keys if isinstance(node, ast.Dict) else node.elts
    return frozenset(str(e.value) if isinstance(e, ast.Constant) else "" for e in elements)


# ---------------------------------------------------------------- what types don't say


def anys(root: Path = ROOT) -> dict[str, int]:
    """How often the signatures of a file say `Any` of an argument or of what is returned. What is inside a container
    doesn't count: configurations and documents are mappings to anything.
    """
    found = {path: sum(map(_any_in, ast.walk(tree))) for path, tree in parsed(root).items()}
    return {path: count for path, count in found.items() if count}


def _any_in(node: ast.AST) -> int:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return 0
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    said = [arg.annotation for arg in every if arg is not None] + [node.returns]
    return sum(any(last(side) == "Any" for side in _sides(one)) for one in said if one is not None)


def _sides(annotation: ast.expr) -> list[ast.expr]:
    """`X | None` as X and None."""
    if isinstance(annotation, ast.BinOp):
        return [*_sides(annotation.left), *_sides(annotation.right)]
    return [annotation]


# ---------------------------------------------------------------- what errors say

#: What an error has to say, each by its name.
PARTS = frozenset({"got", "want", "hint"})
ERRORS = frozenset(name for name, found in vars(errors).items() if isinstance(found, type))


def raised(root: Path = ROOT) -> dict[str, tuple[int, int]]:
    """Room to how many errors it makes of parts, and how many of one sentence, which says no way on."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, tree in parsed(root).items():
        for call in _errors(tree):
            counts[_room(path)][not _parted(call)] += 1
    return {room: (parted, plain) for room, (parted, plain) in sorted(counts.items())}


def glued(root: Path = ROOT) -> list[str]:
    """Where a part of an error is put into its sentence: `; ` before a way on, `wanted` before what was wanted."""
    found = []
    for path, tree in parsed(root).items():
        said = {call.lineno: _said(call.args[0]) for call in _errors(tree) if call.args and not _parted(call)}
        found += [f"{path}:{line}" for line, text in sorted(said.items()) if "; " in text or "wanted " in text]
    return found


def _errors(tree: ast.Module) -> Iterator[ast.Call]:
    """Where an error is made: adaptr's own, and not one of click's of the same name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and last(node.func) in ERRORS:
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            if last(owner) != "click":
                yield node


def _parted(call: ast.Call) -> bool:
    """`**parts` are some that were given; the class of why a method can't be merged words the way on itself."""
    return last(call.func) == "NotMergeable" or any(keyword.arg in {*PARTS, None} for keyword in call.keywords)


def _said(node: ast.expr) -> str:
    """The fixed words of a text."""
    return "".join(n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def _room(path: str) -> str:
    parts = Path(path).parts
    return "/".join(parts[:2] if len(parts) > 2 else parts[:1])


def rooms(root: Path = ROOT) -> dict[str, int]:
    """Lines of each room: a package at the top, or the files that are in none."""
    found: dict[str, int] = defaultdict(int)
    for file in files(root):
        found[_room(str(file.relative_to(root)))] += len(file.read_text("utf-8").splitlines())
    return dict(found)


#: Lines that a file has at most, of the product and of tests.
LONG = 300


def long_files(root: Path = ROOT) -> list[str]:
    return _longer(files(root), root)


def long_tests(root: Path = ROOT) -> list[str]:
    return _longer((root / "tests").rglob("*.py"), root)


def _longer(found: Iterable[Path], root: Path) -> list[str]:
    lines = {str(file.relative_to(root)): len(file.read_text("utf-8").splitlines()) for file in found}
    return [f"{path}: {count}" for path, count in sorted(lines.items()) if count > LONG]


def main(root: Path) -> None:
    for name, lines in sorted(rooms(root).items()):
        print(f"{lines:7} lines  {name}")
    for what, places in (("kinds", kinds_named), ("families", families_named), ("methods", methods_named)):
        found = places(root)
        print(f"{len(found):7} {what} named where nobody should know them", *found, sep="\n          ")
    print(f"{sum(anys(root).values()):7} `Any` in signatures")
    for room, (parted, plain) in raised(root).items():
        print(f"{parted:7} errors of parts, {plain:3} of one sentence  {room}")
    for what, found in ((f"files over {LONG}", long_files(root)), (f"test files over {LONG}", long_tests(root))):
        print(f"{len(found):7} {what} lines", *found, sep="\n          ")
    print(f"{len(circles(root)):7} circles", *(" ".join(c) for c in circles(root)), sep="\n          ")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
