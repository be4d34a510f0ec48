"""`Adapter`: small tensors beside a frozen base. Frozen, and free of torch.

An adapter's tensors are a mapping from file keys (`<target>:<param>`) to tensors; it may be lazy, so that a header can
be read, counted and compared without touching the weights.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.adapter import dequantize, keys
from adaptr.adapter.base import Base
from adaptr.adapter.keys import REPLACED
from adaptr.adapter.part import Part
from adaptr.adapter.renamed import Renamed
from adaptr.adapter.summand import Summand
from adaptr.adapter.target import Target
from adaptr.adapter.tensors import Tensors
from adaptr.errors import TargetNotFound, phrases, shown
from adaptr.errors.called import called
from adaptr.report import table

if TYPE_CHECKING:
    from torch import Tensor


#: The field of `training` that counts the steps a method's schedule has taken.
TAKEN = "taken"


@dataclass(frozen=True, repr=False)
class Adapter(Summand):
    """A set of small tensors beside a frozen base, and all that must be known to use them.

    `tensors`: file key to tensor. `parts`: the methods of a composite, whose tensors are keyed
    `<target>:<part>.<param>`. `lineage`: {operation, arguments, parents}. `foreign`: fields of the format it was
    imported from, kept for the way back. `extra`: unknown optional manifest fields, kept through a round trip.
    `source`: where it was read from, never written.
    """

    method: str
    config: Mapping[str, Any]
    targets: Mapping[str, Target]
    tensors: Mapping[str, Tensor]
    version: int = 1
    parts: Mapping[str, Part] = field(default_factory=dict)
    base: Base = field(default_factory=Base)
    name: str = ""
    release: str = ""
    summary: str = ""
    license: str = ""
    tags: tuple[str, ...] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    foreign: Mapping[str, Any] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False)
    #: What its method goes on by when training is continued; see `InTraining`.
    memory: ClassVar[Mapping[str, Tensor]] = {}

    def __repr__(self) -> str:
        """One line, without reading a tensor: what it is, not all that it holds."""
        values = f"{len(self.all_targets)} targets, {len(self.tensors)} tensors"
        return f"<Adapter {shown(self.label)}: {shown(self.method)}, {values}>"

    def _repr_html_(self) -> str:
        kinds = {str(target.kind) for _, target in self.all_targets}
        facts = {"adapter": self.label, "method": self.method, "targets": f"{len(self.all_targets)} {', '.join(kinds)}"}
        config = ", ".join(f"{name}={value}" for name, value in self.config.items())
        return table({**facts, "tensors": len(self.tensors), "config": config, "base": self.base.id or "not said"})

    def remembering(self, memory: Mapping[str, Tensor]) -> Adapter:
        """This adapter with what its method goes on by, {} for nothing."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(Adapter)}
        return InTraining(**values, memory=memory) if memory else Adapter(**values)

    def at(self, path: str) -> Tensors:
        """The tensors at a target, by parameter name. Quantised ones are returned as floats."""
        if path not in self.targets:
            raise TargetNotFound(
                f"adapter `{self.label}` has no target `{path}`",
                hint=phrases.meant(path, self.targets) or "its `targets` are what it has",
            )
        return dequantize.dequantize(self.stored(path)) if self.quantization else self.stored(path)

    def stored(self, path: str) -> Tensors:
        """The tensors at a target as they are stored, by parameter name, what is beside quantised ones included."""
        names = (key.rpartition(":")[2] for key in self._keys_at.get(path, ()))
        return Tensors({**{name: self.tensors[f"{path}:{name}"] for name in names}, **self._shared})

    def floats(self) -> Adapter:
        """The same adapter with the numbers that its tensors stand for, none of them quantised."""
        if not self.quantization:
            return self
        made = {key: tensor for key, tensor in self.tensors.items() if key.endswith(f":{REPLACED}")}
        for path, here in self._keys_at.items():
            stored = {key.rpartition(":")[2]: self.tensors[key] for key in here}
            made |= {f"{path}:{name}": tensor for name, tensor in dequantize.dequantize(stored).items()}
        for name in self.parts:
            made |= {keys.in_part(key, name): tensor for key, tensor in self.part(name).floats().tensors.items()}
        return dataclasses.replace(self, tensors=made, quantization={})

    def shapes(self, path: str) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors at a target, from the file's header where they are in a file."""
        shape = getattr(self.tensors, "shape", lambda key: tuple(self.tensors[key].shape))
        here = [*self._keys_at.get(path, ()), *(f":{name}" for name in self._shared)]
        found = {key.rpartition(":")[2]: shape(key) for key in here}
        return dequantize.shapes(found) if self.quantization else found

    def held(self) -> Adapter:
        """This adapter with all its tensors in memory, read at once where they are in a file."""
        read = getattr(self.tensors, "held", None)
        return self if read is None else dataclasses.replace(self, tensors=read())

    @functools.cached_property
    def _shared(self) -> Mapping[str, Tensor]:
        """The tensors that all targets share, by parameter name; read once."""
        shared = () if "" in self.targets else self._keys_at.get("", ())
        return {key[1:]: self.tensors[key] for key in shared}

    @functools.cached_property
    def _keys_at(self) -> Mapping[str, list[str]]:
        return keys.by_path(self.tensors, self.parts)

    @property
    def own(self) -> dict[str, Tensor]:
        """The tensors that belong to no part, whole parameters left out."""
        return {key: self.tensors[key] for here in self._keys_at.values() for key in here}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in {"_keys_at", "_shared"}}

    @property
    def replaced(self) -> dict[str, Tensor]:
        """Whole parameters that the adapter replaces, by parameter path."""
        return {path: self.tensors[f"{path}:{REPLACED}"] for path in self.replaced_paths}

    @property
    def replaced_paths(self) -> list[str]:
        """The paths of these parameters, without reading one."""
        return keys.replaced(self.tensors)

    @property
    def grounds(self) -> dict[str, str]:
        """{target: parameter} of the weights that the adapter brings under its own delta: values to begin from."""
        mine = {p: p if t.stacked else f"{p}.weight" for p, t in self.targets.items()}
        own = {p: name for p, name in mine.items() if self.targets[p].weighted}
        return {p: name for p, name in own.items() if f"{name}:{REPLACED}" in self.tensors}

    @property
    def label(self) -> str:
        return self.name or called(self.source) or self.method

    def part(self, name: str) -> Adapter:
        """One method of a composite as an adapter of its own, sharing the tensors."""
        part = self.parts[name]
        tensors, memory = keys.part_keys(self.tensors, name), keys.part_keys(self.memory, name)
        found = Adapter(
            method=part.method,
            version=part.version,
            config=part.config,
            targets=part.targets,
            tensors={new: self.tensors[old] for new, old in tensors.items()},
            base=dataclasses.replace(self.base, content=part.content) if part.content else self.base,
            quantization=self.quantization,
            training={key: value for key, value in self.training.items() if key == TAKEN},
            name=f"{self.label}.{name}",
        )
        return found.remembering({new: self.memory[old] for new, old in memory.items()})

    def with_parts(self, children: Mapping[str, Adapter]) -> Adapter:
        """This composite with its parts' specifications and tensors taken from `children`."""
        tensors = {k: v for k, v in self.tensors.items() if k.endswith(f":{REPLACED}")}
        memory: dict[str, Tensor] = {}
        training = dict(self.training)
        for name, child in children.items():
            tensors |= {keys.in_part(key, name): tensor for key, tensor in child.tensors.items()}
            memory |= {keys.in_part(key, name): tensor for key, tensor in child.memory.items()}
            training |= {key: value for key, value in child.training.items() if key == TAKEN}
        parts = {n: Part(c.method, c.version, c.config, c.targets) for n, c in children.items()}
        whole = dataclasses.replace(self, parts=parts, tensors=tensors, training=training)
        return whole.remembering(memory)

    @property
    def all_targets(self) -> list[tuple[str, Target]]:
        """(part name or "", target) for every target, those of the parts included."""
        own = [("", t) for t in self.targets.values()]
        return own + [(n, t) for n, p in self.parts.items() for t in p.targets.values()]

    @property
    def origin(self) -> Mapping[str, Tensor]:
        """The tensors below all renamings: the same object means the same adapter."""
        found = self.tensors
        while isinstance(found, Renamed):
            found = found.tensors
        return found

    def renamed(self, paths: Mapping[str, str]) -> Adapter:
        """The same adapter at other places: `paths` maps old paths of targets and parameters to new ones."""
        targets = {paths.get(p, p): dataclasses.replace(t, path=paths.get(p, p)) for p, t in self.targets.items()}
        made = dataclasses.replace(self, targets=targets, tensors=Renamed(self.tensors, paths))
        return made.remembering(Renamed(self.memory, paths) if self.memory else {})

    def replace(self, **changes: Any) -> Adapter:
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, repr=False)
class InTraining(Adapter):
    """An adapter whose training goes on. `memory`: tensors that its method keeps between steps, `<path>:<name>`.

    No part of what the adapter does, nor of its digest.
    """

    memory: Mapping[str, Tensor] = field(default_factory=dict)  # type: ignore[misc]
