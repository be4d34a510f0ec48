"""Modules that import one another."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from parsed import ROOT, last, parsed


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Module to the modules that it imports anywhere but for type checkers."""
    trees = {_module(path): (path, tree) for path, tree in parsed(root).items()}
    graph: dict[str, set[str]] = defaultdict(set)
    for module, (path, tree) in trees.items():
        for name in _imported(tree, module if path.endswith("__init__.py") else module.rpartition(".")[0]):
            found = name if name in trees else name.rpartition(".")[0]
            if found in trees and found != module:
                graph[module].add(found)
    return graph


def _module(path: str) -> str:
    return path.removeprefix("plugins/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and last(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            beside = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*beside, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        else:
            yield from _imported(node, package)


def circles(root: Path = ROOT) -> list[list[str]]:
    """Groups of modules that import one another, largest first."""
    graph = imports(root)
    reach = {module: _reached(graph, module) for module in graph}
    found = {frozenset(o for o in reach[m] if m in reach.get(o, ())) for m in graph if m in reach[m]}
    return sorted((sorted(group) for group in found), key=len, reverse=True)


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(graph.get(start, ()))
    while ahead:
        module = ahead.pop()
        if module not in seen:
            seen.add(module)
            ahead += graph.get(module, ())
    return seen
