"""A model drawn without torch: modules by name, shapes of parameters, and what places and methods ask of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any


@dataclass(frozen=True, eq=False)
class Numbers:
    """A parameter of which only the shape is known."""

    shape: tuple[int, ...]
    is_meta: bool = True

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return math.prod(self.shape)

    def is_floating_point(self) -> bool:
        return True

    def element_size(self) -> int:
        return 4


@dataclass(eq=False)
class Drawn:
    """A module. `kind`, `shape`: as a `Target` says them, "" and () for what only holds others.

    The other names are those of torch's modules, as far as places and methods read them.
    """

    kind: str = ""
    shape: tuple[int, ...] = ()
    _parameters: dict[str, Numbers] = field(default_factory=dict)
    _modules: dict[str, Drawn] = field(default_factory=dict)
    _buffers: dict[str, Numbers] = field(default_factory=dict)

    @property
    def out_features(self) -> int | None:
        return self.shape[0] if len(self.shape) == 2 else None

    def child(self, name: str) -> Drawn:
        """The module of that name, drawn if it is not there yet."""
        return self._modules.setdefault(name, Drawn())

    def named_modules(self, above: str = "") -> Iterator[tuple[str, Drawn]]:
        yield above, self
        for name, module in self._modules.items():
            yield from module.named_modules(f"{above}.{name}" if above else name)

    def get_submodule(self, path: str) -> Drawn:
        """Raises `AttributeError` if there is none."""
        found: Drawn | None = self
        for name in path.split(".") if path else ():
            found = found._modules.get(name) if found is not None else None
        if found is None:
            raise AttributeError(f"no module `{path}`")
        return found

    def named_parameters(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Numbers]]:
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, numbers in module._parameters.items():
                if not (remove_duplicate and id(numbers) in seen):
                    seen.add(id(numbers))
                    yield f"{path}.{name}" if path else name, numbers

    def ties(self) -> tuple[tuple[str, ...], ...]:
        """Names of parameters that are one, the first that has it first."""
        groups: dict[int, list[str]] = {}
        for name, numbers in self.named_parameters(remove_duplicate=False):
            groups.setdefault(id(numbers), []).append(name)
        return tuple(tuple(names) for names in groups.values() if len(names) > 1)

    def parameters(self) -> Iterator[Numbers]:
        yield from (numbers for _, numbers in self.named_parameters())


class Sketch(Drawn):
    """A whole model. `head`: the path of its output head, `table`: that of its embeddings."""

    def __init__(self, config: Mapping[str, Any], table: str, head: str) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        self._table, self._head = table, head

    @cached_property
    def names(self) -> frozenset[str]:
        """All names of its parameters; one that is tied has two."""
        return frozenset(name for name, _ in self.named_parameters(remove_duplicate=False))

    def get_input_embeddings(self) -> Drawn:
        return self.get_submodule(self._table)

    def get_output_embeddings(self) -> Drawn | None:
        return self.get_submodule(self._head) if self._head else None
