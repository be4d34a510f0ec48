"""AdapterHub's blocks over several adapters (BatchSplit, Split, Parallel), as those of a live model.

What goes around the adapters of a block its library computes as the first of them does, and what comes behind as the
last does: they are read where all do the same, at the same places. Its Average divides by the number of its adapters
once more than its weights do (1.3.0), so that what comes of it is no average, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import BatchSplit, Parallel, Split, Stack
from adaptr.adapter import Adapter
from adaptr.errors import Unsupported, phrases
from adaptr.foreign.peft import config as fields_of
from adaptr_formats.adapterhub import setups
from adaptr_formats.adapterhub.fusion import READ

if TYPE_CHECKING:
    from adaptr.host.tree import Block

_BOTTLENECKS = frozenset({"houlsby", "pfeiffer", "compacter", "compacter-pp"})
#: What rows of a batch can have of their own there.
_ROWS = _BOTTLENECKS | {"lora", "ia3", "prefix"}
#: A block to the field of its sizes, and what it holds.
_SIZES = {"BatchSplit": "batch_sizes", "Split": "splits", "Parallel": ""}
_HOLDS = {"BatchSplit": _ROWS, "Parallel": _ROWS, "Split": _BOTTLENECKS}
Reader = Callable[[Path], Adapter]
Fusion = Callable[[Path, Mapping[str, Adapter]], Adapter]


def read(folder: Path, adapter: Reader, fusion: Fusion) -> Block:
    """The block of a set-up. Raises a `ForeignError`, or `Unsupported` for what adaptr has no such block for."""
    said = setups.setup(folder)
    known = setups.beside(folder, sorted(set(setups.names(said))), adapter)

    def node(one: Mapping[str, Any]) -> Adapter | Block:
        kind = str(one.get("type"))
        if setups.plain(one):
            return setups.made_of(one, folder, known, fusion)
        members = [node(child) for child in setups.children(one)]
        if kind == setups.STACK:
            return Stack(*members)
        if kind not in _SIZES:
            raise setups.refused(kind)
        return _block(kind, _alike(kind, members), one.get("kwargs"))

    found = node(said)
    return Stack(found) if isinstance(found, Adapter) else found


def _block(kind: str, members: Sequence[Adapter], said: object) -> Block:
    if kind == "Parallel":
        return Parallel(*members)
    field = _SIZES[kind]
    sizes = said.get(field) if isinstance(said, dict) else None
    if not isinstance(sizes, list) or len(sizes) != len(members) or any(type(s) is not int or s < 0 for s in sizes):
        raise fields_of.misread(field, sizes, f"{len(members)} whole numbers")
    return BatchSplit(*members, sizes=sizes) if kind == "BatchSplit" else Split(*members, sizes=sizes)


def _alike(kind: str, members: Sequence[Adapter | Block]) -> list[Adapter]:
    """The members, which do the same around what they add. Raises `Unsupported`."""
    found = [one for one in members if isinstance(one, Adapter)]
    if len(found) < len(members):
        raise Unsupported(f"it is a `{kind}` of blocks", hint="arrange its adapters on a live model (docs/serving.md)")
    methods = {one.method for one in found}
    strange = sorted(methods - _HOLDS[kind])
    if strange:
        raise Unsupported(
            f"AdapterHub's `{kind}` has no `{strange[0]}` of some rows or tokens alone, and adaptr reads it with "
            f"{phrases.listed(sorted(_HOLDS[kind]))}",
            hint="load its adapters, each alone",
        )
    if len({_around(one) for one in found}) > 1 or (len(methods) > 1 and not methods <= _BOTTLENECKS):
        raise Unsupported(
            f"the adapters of the `{kind}` are not at the same places, or do different things around what they add, "
            "and AdapterHub does as one of them does for all",
            hint="load each alone, and arrange them on a live model (docs/serving.md)",
        )
    return found


def _around(adapter: Adapter) -> str:
    """Where it is, and what it does there around what it adds."""
    fields = (*READ, "keeps", "normed", "tokens", "side")
    said = {path: {name: t.config.get(name) for name in fields} for path, t in sorted(adapter.targets.items())}
    return repr(said)
