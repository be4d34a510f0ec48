"""YAML that others wrote: what JSON can say, and nothing else of the language.

No tags, aliases, merges or dates; keys are scalars, each there once; numbers are finite and of a size that is kept.
Aliases alone let a file of a kilobyte stand for a document of a billion parts.
"""

from __future__ import annotations

import math

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from adaptr.errors import shown
from adaptr.untrusted.documents import MAX_DEPTH, MAX_DIGITS

_KEPT = frozenset({"tag:yaml.org,2002:" + kind for kind in ("null", "bool", "int", "float")})


class Plain(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """A loader of that. Reading raises `yaml.YAMLError`, nearly always with the line, and nothing else."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag in _KEPT]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def get_single_node(self) -> yaml.Node | None:
        try:
            return super().get_single_node()
        except (ValueError, OverflowError) as error:  # of escapes and versions with numbers that are none
            raise ComposerError(None, None, f"it can't be read: {error}", self.get_mark()) from None

    def compose_node(self, parent: object, index: object) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise ComposerError(None, None, "aliases can't be read here", event.start_mark)
        if event.tag not in {None, "!"}:
            raise ComposerError(None, None, f"the tag `{shown(event.tag)}` can't be read here", event.start_mark)
        if self._depth == MAX_DEPTH:
            raise ComposerError(None, None, f"it nests deeper than {MAX_DEPTH} levels", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: object) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ComposerError(None, None, "a key must be a text or a number", key.start_mark)
            if key.value in seen:
                raise ComposerError(None, None, f"`{shown(key.value)}` is there twice", key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            found = super().construct_object(node, deep)
        except (ValueError, OverflowError):
            raise ConstructorError(None, None, f"`{shown(node.value)}` is no number", node.start_mark) from None
        if isinstance(found, int | float) and not (abs(found) < 10**MAX_DIGITS and math.isfinite(found)):
            raise ConstructorError(
                None, None, f"`{shown(node.value)}` is out of range, wanted a finite number", node.start_mark
            )
        return found
