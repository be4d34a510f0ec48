"""Mentions of submodules in the source of a forward: paths from `self`, called, read or handed on.

Names of a function's own are followed to what they were given (`w = self.fc`, `for layer in self.layers`); of others
nothing is known but what is taken from them.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator

#: Dotted paths as tuples. ONE stands for one name that is not known, or a number, ANY for any number of names.
Path = tuple[str, ...]
ONE, ANY = "*", "**"
VALUES = frozenset({"weight", "bias"})
#: What a parameter is asked that needs no values.
FACTS = {
    "dtype",
    "device",
    "shape",
    "ndim",
    "size",
    "dim",
    "numel",
    "nelement",
    "itemsize",
    "element_size",
    "stride",
} | {
    *("is_meta", "is_cuda", "is_contiguous", "is_floating_point", "layout", "requires_grad", "grad", "data_ptr"),
    *("stride", "__class__", "quant_state", "quant_type"),
}
#: Functions that take a module or a parameter and use no values.
ASKING = {"isinstance", "hasattr", "id", "type", "len", "print", "repr", "str", "super", "callable"}
#: Functions that go through a container.
PASSING = {"enumerate", "zip", "reversed", "list", "tuple", "iter", "next", "sorted", "set", "dict"}
#: How a container is gone through, and how deep that is.
PASSAGES = {
    "values": 1,
    "items": 1,
    "children": 1,
    "named_children": 1,
    "modules": 0,
    "named_modules": 0,
    "__iter__": 1,
}


def matches(pattern: Path, path: Path) -> bool:
    """Whether a path is one that a pattern with ONE and ANY stands for."""
    if not pattern:
        return not path
    if pattern[0] == ANY:
        return any(matches(pattern[1:], path[i:]) for i in range(len(path) + 1))
    return bool(path) and pattern[0] in (ONE, path[0]) and matches(pattern[1:], path[1:])


class Mentions:
    """Collected over the functions of a class. `methods`: names of its own that are used. `known`: nothing hidden."""

    def __init__(self) -> None:
        self.called: set[Path] = set()
        self.taken: set[Path] = set()
        self.handed: set[Path] = set()
        self.methods: set[str] = set()
        self.known = True

    def calls_match(self, path: Path) -> bool:
        return path in self.called or any(matches(p, path) for p in (*self.called, *self.handed))

    def reads_match(self, path: Path) -> bool:
        return path in self.taken or any(matches(p, path) for p in (*self.taken, *self.handed))

    def read(self, text: str, function: object, cls: type) -> None:
        """Add what one function of `cls` does. Code that can't be read may do anything."""
        tree = _parsed(text)
        if tree is None:
            self.known = False
            return
        _Function(self, tree, function, cls).go()


def _parsed(text: str) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
    try:
        nodes = ast.walk(ast.parse(text))
    except SyntaxError:
        return None
    return next((n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)), None)


class _Function:
    """One function, whose first argument is the module (`at`: the argument's place)."""

    def __init__(
        self,
        found: Mentions,
        tree: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        function: object,
        cls: type,
        at: int = 0,
    ) -> None:
        self.found, self.tree, self.cls = found, tree, cls
        self.globals = getattr(function, "__globals__", {})
        arguments = [*tree.args.posonlyargs, *tree.args.args]
        #: What names stand for: nothing, where that is not known.
        stored = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        self.names: dict[str, set[Path]] = {n.id: set() for n in stored}
        self.names |= {a.arg: set() for a in ast.walk(tree) if isinstance(a, ast.arg)}
        if at < len(arguments):
            self.names[arguments[at].arg] = {()}

    def go(self) -> None:
        for _ in range(2):  # a name may be given to another further up
            for node in ast.walk(self.tree):
                self._bind(node)
        body = self.tree.body if isinstance(self.tree.body, list) else [self.tree.body]
        for statement in body:
            self._visit(statement)

    # ------------------------------------------------------------ names

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._give(target, node.value)
        elif isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value is not None:
            self._give(node.target, node.value)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            inner = {path for chain in _chains(node.iter) for path in self._elements(chain)}
            for name in ast.walk(node.target):
                if isinstance(name, ast.Name):
                    self.names[name.id] |= inner

    def _give(self, target: ast.AST, value: ast.AST) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, other in zip(target.elts, value.elts, strict=True):
                self._give(one, other)
        elif isinstance(target, ast.Name):
            branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
            for branch in branches:
                if isinstance(branch, ast.Name | ast.Attribute | ast.Subscript) or _is_getattr(branch):
                    paths = self._paths(branch)
                    self.names[target.id] |= {p for p in paths or () if p and p[-1] not in VALUES and ANY not in p}

    def _elements(self, chain: ast.AST) -> Iterator[Path]:
        for path in self._paths(chain) or ():
            if path and path[-1] in PASSAGES:
                yield (*path[:-1], ONE if PASSAGES[path[-1]] else ANY)
            elif ANY not in path:
                yield (*(name for name in path if name != "_modules"), ONE)

    def _paths(self, node: ast.AST) -> set[Path] | None:
        """What an expression may stand for, from the module; None for what is no module's (`F.linear`)."""
        tail: list[str] = []
        while True:
            if isinstance(node, ast.Attribute):
                tail.append(node.attr)
                node = node.value
            elif isinstance(node, ast.Subscript):
                tail.append(_key(node.slice))
                node = node.value
            elif _is_getattr(node):
                tail.append(_key(node.args[1]))  # type: ignore[attr-defined]
                node = node.args[0]  # type: ignore[attr-defined]
            else:
                break
        rest = tuple(reversed(tail))
        if isinstance(node, ast.Name):
            if node.id not in self.names:
                return None
            heads = self.names[node.id]
            return {head + rest for head in heads} if heads else {(ANY, *rest)}
        return {(ANY, *rest)} if isinstance(node, ast.Call) else None

    # ------------------------------------------------------------ mentions

    def _visit(self, node: ast.AST, asked: bool = False) -> None:
        if isinstance(node, ast.Call) and not _is_getattr(node):
            self._call(node)
        elif isinstance(node, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
            for side in (node.left, *node.comparators):
                self._visit(side, asked=True)
        elif isinstance(node, ast.Attribute | ast.Subscript) or _is_getattr(node):
            self._mention(node, asked)
        else:
            for child in ast.iter_child_nodes(node):
                self._visit(child)

    def _call(self, node: ast.Call) -> None:
        paths = self._paths(node.func) or set()
        for path in paths:
            self._called(path)
        if paths and any(p and not self._is_method(p) for p in paths) and any(VALUES & set(p) for p in paths):
            self._mention(node.func, asked=False)
        elif not isinstance(node.func, ast.Name):
            self._inner(node.func)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        asking = name in ASKING
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        for place, argument in enumerate(arguments):
            if not asking and name not in PASSING:
                self._argument(argument, node, place)
            self._visit(argument, asking)

    def _argument(self, argument: ast.AST, call: ast.Call, place: int) -> None:
        plain = isinstance(argument, ast.Name | ast.Attribute | ast.Subscript) or _is_getattr(argument)
        paths = (self._paths(argument) or set()) if plain else set()
        for path in paths:
            if path == ():
                self._handed_whole(call, place)
            elif ANY not in path and not VALUES & set(path) and not self._is_method(path):
                self.found.handed |= {path, (*path, ONE)}

    def _handed_whole(self, call: ast.Call, place: int) -> None:
        """The module itself is an argument: the function is read too where it can be found."""
        function = self.globals.get(call.func.id) if isinstance(call.func, ast.Name) else None
        if not inspect.isfunction(function):
            self.found.called.add((ANY,))
            return
        function = inspect.unwrap(function)
        tree = _parsed(text_of(function))
        seen = self.found.__dict__.setdefault("functions", set())
        if tree is not None and function not in seen:
            seen.add(function)
            _Function(self.found, tree, function, self.cls, place).go()

    def _called(self, path: Path) -> None:
        if path and path[-1] in {"forward", "__call__"}:
            path = path[:-1]
        if self._is_method(path):
            self.found.methods.add(path[0])
        elif path:
            self.found.called.add(path)

    def _mention(self, node: ast.AST, asked: bool) -> None:
        for path in self._paths(node) or ():
            if self._is_method(path):
                self.found.methods.add(path[0])
            at = next((i for i, name in enumerate(path) if name in VALUES), None)
            if not at:  # nothing read, or a parameter of its own
                continue
            after = path[at + 1] if at + 1 < len(path) else ""
            if after not in FACTS and not (asked and not after):
                self.found.taken.add(path[:at])
        self._inner(node)

    def _inner(self, node: ast.AST) -> None:
        """What lies inside a chain: subscripts, and the call that it begins with."""
        while True:
            if isinstance(node, ast.Subscript):
                self._visit(node.slice)
            if isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value
            elif _is_getattr(node):
                node = node.args[0]  # type: ignore[attr-defined]
            else:
                break
        if not isinstance(node, ast.Name):
            self._visit(node)

    def _is_method(self, path: Path) -> bool:
        return len(path) == 1 and hasattr(self.cls, path[0])


def _is_getattr(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr"


def _key(node: ast.AST) -> str:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else ONE


def _chains(node: ast.AST) -> Iterable[ast.AST]:
    """The longest chains of names in an expression."""
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return [node]
    return [found for child in ast.iter_child_nodes(node) for found in _chains(child)]


def text_of(function: object) -> str:
    """The source of a function, "" where there is none."""
    try:
        return textwrap.dedent(inspect.getsource(function))  # type: ignore[arg-type]
    except (OSError, TypeError, IndentationError):
        return ""
