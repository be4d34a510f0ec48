"""What rules ask of an adapter, each thing worked out once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from adaptr.foreign.peft.config import ranked
from adaptr.serving.profile import Architecture, Profile, Scale
from adaptr.serving.seen import Base, Seen, Stored

#: Where the module of a tensor is in the model that is served: it takes part, it doesn't under that name, it ends as no
#: layer that does, it is in a part that must be asked for, or that is not known.
THERE, ELSEWHERE, UNEXPECTED, TOWER, UNKNOWN = "there", "elsewhere", "unexpected", "tower", "unknown"


class Facts:
    """An adapter before a server. `options`: what the server is told."""

    def __init__(self, seen: Seen, profile: Profile, base: Base | None, options: Mapping[str, Any]) -> None:
        self.seen, self.profile, self.base = seen, profile, base
        self.options = {**profile.options, **options}
        self.config = seen.config

    @cached_property
    def tensors(self) -> list[Stored]:
        return self.seen.stored(self.profile.strip)

    @cached_property
    def paths(self) -> frozenset[str]:
        return frozenset(one.path for one in self.tensors)

    @cached_property
    def architecture(self) -> Architecture | None:
        return None if self.base is None else self.profile.architecture(self.base.architecture)

    @cached_property
    def scale(self) -> Scale | None:
        return next(iter(self.profile.scales), None)

    # ---------------------------------------------------------------- where a module is

    def name(self, one: Stored) -> str:
        """A module by the server's own name."""
        found = f"{one.path}."
        for old, new in self.architecture.renames.items() if self.architecture is not None else ():
            found = new + found.removeprefix(old) if found.startswith(old) else found
        return found[:-1]

    def place(self, one: Stored) -> str:
        if self.architecture is None:
            return UNKNOWN
        name = self.name(one)
        if any(self._is(name, pattern) for pattern in self.architecture.modules):
            return THERE
        if any(name.startswith(tower) for tower in self.architecture.towers):
            return TOWER
        if one.name in self._ends:
            return ELSEWHERE
        return UNEXPECTED if self.architecture.complete else UNKNOWN

    @cached_property
    def _ends(self) -> frozenset[str]:
        modules = () if self.architecture is None else self.architecture.modules
        return frozenset(pattern.rpartition(".")[2] for pattern in modules)

    def _is(self, name: str, pattern: str) -> bool:
        found = re.fullmatch(re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", r"(\d+)"), name)
        if found is None:
            return False
        most = self.base.layers if self.base is not None else 0
        return not (found.groups() and most) or int(found[1]) < most

    def missing(self, one: Stored) -> list[int]:
        """The layers of the base without that kind of module."""
        most = self.base.layers if self.base is not None else 0
        numbers = self._layers.get(one.kind, frozenset())
        return sorted(set(range(most or max(numbers, default=-1) + 1)) - numbers) if numbers else []

    def ranks(self, one: Stored) -> frozenset[int]:
        """The ranks that its kind of module has."""
        return frozenset(other.rank for other in self.tensors if other.kind == one.kind and other.rank)

    @cached_property
    def _layers(self) -> Mapping[str, frozenset[int]]:
        found: dict[str, set[int]] = {}
        for one in self.tensors:
            if one.layer is not None:
                found.setdefault(one.kind, set()).add(one.layer)
        return {kind: frozenset(numbers) for kind, numbers in found.items()}

    # ---------------------------------------------------------------- what it is multiplied by

    def ours(self, one: Stored) -> float:
        """What PEFT multiplies B A by."""
        said = ranked(self.config, one.path, "r", "lora_alpha")
        return _over(said["alpha"], said["r"], bool(self.config.get("use_rslora")))

    def theirs(self, one: Stored) -> float:
        """What the server does."""
        if self.scale is None:
            return self.ours(one)
        said = ranked(self.config, one.path, "r", "lora_alpha")
        rank = said["r"] if self.scale.rank == "own" else self.config["r"]
        alpha = said["alpha"] if self.scale.alpha == "own" else self.config["lora_alpha"]
        return _over(alpha, rank, self.scale.rslora and bool(self.config.get("use_rslora")))

    # ---------------------------------------------------------------- in words

    def words(self, one: Stored) -> dict[str, object]:
        """What the words of rules name."""
        factors = one.rank > 0 and {"r", "lora_alpha"} <= self.config.keys()
        return {
            "tool": self.profile.tool,
            "module": one.path,
            "name": self.name(one),
            "end": one.name,
            "key": one.key,
            "rank": one.rank,
            "architecture": self.base.architecture if self.base is not None else "",
            "ours": f"{self.ours(one):.4g}" if factors else "",
            "theirs": f"{self.theirs(one):.4g}" if factors else "",
            "missing": ", ".join(map(str, self.missing(one)[:3])),
            "options": self.options,
        }


def _over(alpha: float, rank: float, rslora: bool) -> float:
    return alpha / (math.sqrt(rank) if rslora else rank)
