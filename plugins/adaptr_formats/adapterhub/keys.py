"""The names of AdapterHub's tensors: `<module>.<sort>.<adapter>.<slot>`.

A prefix lies in a pool that every attention has, so that a file repeats it for each. What layers share lies beside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from adaptr.errors import ConfigConflict, NoAdapterTensors, TensorUnknown, phrases, shown

ADAPTERS, LORAS, REFTS, PROMPTS = "adapters", "loras", "refts", "prompt_tunings"
PREFIXES, GATES, SHARED, INVERTIBLE = "prefix_tunings", "prefix_gates", "shared_parameters", "invertible_adapters"
#: What sorts were called in 2020, by how these names begin.
_OLD = {"attention": ADAPTERS, "layer": ADAPTERS, "invertible": INVERTIBLE}
_KEY = re.compile(
    r"(?:(?P<path>.+)\.)?(?P<sort>adapters|loras|refts|prompt_tunings|prefix_tunings|prefix_gates|shared_parameters"
    r"|invertible_adapters|(?:attention|layer)_text_(?:task|lang)_adapters|invertible_lang_adapters)"
    r"\.(?P<name>[^.]+)\.(?P<slot>.+)",
    re.DOTALL,
)
_POOL = re.compile(r"(?:(?P<path>.+)\.)?prefix_tuning(?P<pool>\.pool)?", re.DOTALL)


@dataclass(frozen=True)
class Grouped:
    """`found`: sort to the path of a module to slot to key. `attentions`: paths that a prefix is repeated at."""

    found: Mapping[str, Mapping[str, Mapping[str, str]]]
    attentions: tuple[str, ...] = ()
    used: set[str] = field(default_factory=set)

    def of(self, sort: str) -> Mapping[str, Mapping[str, str]]:
        """The modules of a sort, which then is read."""
        self.used.add(sort)
        return self.found.get(sort, {})

    def require_read(self) -> None:
        """Raises `TensorUnknown` for tensors of a sort that nobody asked for."""
        left = next((sort for sort in self.found if sort not in self.used), None)
        if left is not None:
            key = next(iter(next(iter(self.found[left].values())).values()))
            raise TensorUnknown(f"`{shown(key)}` belongs to no method of the configuration", hint=phrases.AGAIN)


def grouped(keys: Iterable[str]) -> Grouped:
    """Raises `TensorUnknown` for a strange name, `ConfigConflict` for tensors of several adapters."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    attentions: list[str] = []
    names = set()
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is None:
            raise TensorUnknown(f"`{shown(key)}` is no tensor of an AdapterHub adapter", hint=phrases.AGAIN)
        names.add(match["name"])
        path, sort = match["path"] or "", _OLD.get(match["sort"].partition("_")[0], match["sort"])
        if sort in (PREFIXES, GATES):
            path, pooled = _attention(path, key)
            if pooled and path not in attentions:
                attentions.append(path)
        slots = found.setdefault(sort, {}).setdefault("" if sort == PREFIXES else path, {})
        slots.setdefault(match["slot"], key)
    if not found:
        raise NoAdapterTensors("the file holds no tensors of an adapter", hint=phrases.AGAIN)
    if len(names) > 1:
        raise ConfigConflict(
            f"the file holds tensors of several adapters, {phrases.listed(sorted(map(shown, names)))}",
            hint="save each alone (`model.save_adapter`)",
        )
    return Grouped(found, tuple(attentions))


def _attention(path: str, key: str) -> tuple[str, bool]:
    """The attention that a prefix lies at, and whether that is where it repeats the pool of all."""
    match = _POOL.fullmatch(path)
    if match is None:
        raise TensorUnknown(f"`{shown(key)}` is no tensor of an AdapterHub prefix", hint=phrases.AGAIN)
    return match["path"] or "", match["pool"] is not None
