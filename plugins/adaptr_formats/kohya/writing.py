"""From an adapter to a file of kohya's and LyCORIS's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, phrases
from adaptr.files import replacing
from adaptr.foreign import Written, saving
from adaptr.foreign.pieces.module import ALPHA
from adaptr_formats.kohya import called, hashes, laid

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.foreign.same import Same


def lost(adapter: Adapter) -> list[str]:
    """What has no place in such a file. Raises `Unsupported` for a method that it has no algorithm for."""
    parts = _parts(adapter)
    dropped = any(target.config.get("dropout") for part in parts for target in part.targets.values())
    whole = [f"the whole parameter `{path}`" for path in adapter.replaced_paths]
    return [*saving.lost(adapter), *whole, *(["dropout rates"] if dropped else [])]


def save(adapter: Adapter, out: Path, force: bool) -> Written:
    """Write one file. Raises `Unsupported` for layers that such a file can't have, or names that stand for others."""
    kept = adapter.foreign.get("kohya", {})
    found: dict[str, tuple[str, Tensor | Same]] = {}
    flats = called.flats(adapter, kept)
    tensors: dict[str, Tensor | Same] = {}
    for part in map(saving.plain, _parts(adapter)):
        for path, target in part.targets.items():
            slots = laid.module(part, path, target, kept.get(ALPHA, ""))
            made = {f"{flats[path]}.{slot}": value for slot, value in slots}
            _require_apart(tensors, made)
            tensors |= made
            found |= {f"{path}:{name}": (f"{flats[path]}.{slot}", made[f"{flats[path]}.{slot}"])
                      for name, slot in laid.SLOTS[part.method].items() if f"{flats[path]}.{slot}" in made}  # fmt: skip
    said = kept.get("metadata", {})
    metadata = {"format": "pt", **said, **called.renamed(flats), saving.ABOUT: saving.about(adapter)}
    with replacing(out, force) as file:
        saving.write(file, tensors, hashes.renewed(tensors, metadata))
    own = {_bare(key): key for key in adapter.tensors}
    return Written(out, {own[key]: name for key, (name, _) in found.items() if key in own}, notes=called.notes(flats))


def _bare(key: str) -> str:
    """A tensor's key without the part of a stack that it is of."""
    path, _, name = key.rpartition(":")
    return f"{path}:{name.rpartition('.')[2]}"


def _require_apart(tensors: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raises `Unsupported` where two parts of a stack are at one module."""
    for key in made:
        if key in tensors:
            raise Unsupported(f"two parts of the adapter have `{key}`", hint="compose them first (`adaptr compose`)")


def _parts(adapter: Adapter) -> list[Adapter]:
    """The adapter, or the parts of a stack that only adds. Raises `Unsupported` for other methods and weights."""
    if adapter.method != "stack":
        _require_method(adapter.method)
        return [adapter]
    config = adapter.config
    if config.get("weights") or config.get("off"):
        raise Unsupported("a kohya file has no weights of its parts", hint="compose them first (`adaptr compose`)")
    for part in adapter.parts.values():
        _require_method(part.method, "dora")
    return [adapter.part(name) for name in adapter.parts]


def _require_method(method: str, *no: str) -> None:
    if method not in laid.SLOTS or method in no:
        raise Unsupported(
            f"kohya's files have no `{method}`" + (" in a stack" if no else ""),
            hint=f"they can hold {phrases.listed(laid.SLOTS)}",
        )
