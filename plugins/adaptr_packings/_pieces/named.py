"""Names of modules as configurations write them: exact, by `re:` and an expression, or of a class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from adaptr.errors import CheckpointError, Unsupported, shown

T = TypeVar("T")
#: Characters of an expression that is tried on names.
LONGEST = 1000
#: A repetition of what itself repeats, which may take forever on a name of the usual length.
_NESTED = re.compile(r"[*+}][^()]*\)[*+{]")
#: What layers are called that are matrices; `LinearBase` is vLLM's.
LINEAR = ("Linear", "LinearBase")


@dataclass(frozen=True)
class Named(Generic[T]):
    """What is said of modules, looked up by their paths: by exact names first, then by expressions in alphabetic order.

    A file doesn't say of which class a module is: what packs layers by class packs `Linear` ones.
    """

    exact: Mapping[str, T]
    expressions: Iterable[tuple[re.Pattern[str], T]] = field(default_factory=list)

    @classmethod
    def of(cls, said: Mapping[str, T]) -> Named[T]:
        """Raises `CheckpointError` for an expression that is none, `Unsupported` for one that isn't tried."""
        exact = {name: one for name, one in said.items() if not name.startswith("re:")}
        return cls(exact, [(_compiled(name[3:]), said[name]) for name in sorted(said.keys() - exact.keys())])

    def named(self, path: str) -> T | None:
        """What is said of a path itself."""
        if path in self.exact:
            return self.exact[path]
        return next((one for expression, one in self.expressions if expression.match(path)), None)

    def of_class(self, path: str) -> T | None:
        """What is said of a path, or of the class that its module has."""
        found = self.named(path)
        wanted = ("Embedding",) if "embed" in path.rpartition(".")[2] else ()
        return found or next((self.exact[name] for name in (*wanted, *LINEAR) if name in self.exact), None)


def _compiled(expression: str) -> re.Pattern[str]:
    if len(expression) > LONGEST or _NESTED.search(expression):
        raise Unsupported(
            f"the expression `{shown(expression)}` in the configuration could take forever",
            hint="name the modules themselves",
        )
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise CheckpointError(
            f"`re:{shown(expression)}` in the configuration", verb="is no expression:", got=str(error)
        ) from error
