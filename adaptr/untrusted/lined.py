"""A YAML document of people's own, whose parts know their line: what recipes are read through."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import RecipeError, phrases, shown
from adaptr.untrusted.files import whole

if TYPE_CHECKING:
    from yaml import Node

MAX_BYTES = 1 << 20


class Lined:
    """Raises `RecipeError`, with the line, for whatever can't be read."""

    def __init__(self, path: Path) -> None:
        import yaml

        from adaptr.untrusted.plain_yaml import Plain

        self.path = path
        text = _text(path)
        try:
            self._loader = Plain(text)
            self.root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self.error(mark.line if mark else 0, f"no YAML: {error.problem}") from None
        except yaml.YAMLError as error:
            raise self.error(0, f"no YAML: {shown(' '.join(str(error).split()), 200)}") from None

    def fields(self, node: Node | None, known: Collection[str], what: str) -> dict[str, Any]:
        """Key to node of a mapping with no other keys than these, each once."""
        if node is None or node.id != "mapping":
            line = 0 if node is None else node.start_mark.line
            raise self.error(line, f"{what} must be a mapping with {phrases.listed(known)}")
        found: dict[str, Any] = {}
        for key, value in node.value:
            if key.value not in known:
                hint = phrases.meant(str(key.value), known, 1) or f"it has {phrases.listed(known)}"
                raise self.error(key.start_mark.line, f"{what} has no field `{shown(key.value)}`", hint=hint)
            found[key.value] = value
        return found

    def value(self, name: str, node: Node) -> Any:
        """What stands at a node, in Python's own types."""
        import yaml

        try:
            return self._loader.construct_object(node, deep=True)
        except yaml.MarkedYAMLError as error:
            raise self.error(node.start_mark.line, f"`{name}` can't be read: {error.problem}") from None

    def error(self, line: int, message: str, **parts: str) -> RecipeError:
        """`line`: from 0, as marks count. `parts`: those of an error."""
        return RecipeError(f"`{self.path}`, line {line + 1}: {message}", **parts)


def _text(path: Path) -> str:
    raw = whole(path, MAX_BYTES)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RecipeError(f"`{path}`, line {line}: not UTF-8", hint="save it as UTF-8") from None
