"""AdapterHub's set-ups: folders of adapters, with what puts them together (`adapter_setup.json`), and fusions of them.

    setup/adapter_setup.json    setup/a/    setup/b/    setup/a,b/adapter_fusion_config.json

Read are a stack, one on the other, and a fusion. What the other blocks do with the rows of a batch or the places of a
text is no adapter: they are blocks of a live model (`blocks`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter
from adaptr.errors import ConfigMissing, ForeignError, Unsupported, phrases, shown
from adaptr.foreign.peft import config as fields_of
from adaptr.untrusted import json_file
from adaptr_formats.adapterhub import several
from adaptr_formats.adapterhub.config import conflict

if TYPE_CHECKING:
    from adaptr.foreign.seen import Seen

SETUP, FUSION = "adapter_setup.json", "adapter_fusion_config.json"
ADAPTERS = ("adapter.safetensors", "pytorch_adapter.bin")
FUSED = ("model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin")
SINGLE, STACK, FUSE = "single", "Stack", "Fuse"
#: What adaptr has as well.
BLOCKS = frozenset({STACK, FUSE, "BatchSplit", "Split", "Parallel"})
_NAME = re.compile(r"[^/\\,\0]+")
#: What sits behind a block, of which several can be one on the other.
_SEQUENTIAL = frozenset({"houlsby", "pfeiffer", "compacter", "compacter-pp", "phm", "gated-pfeiffer"})
#: How many blocks may be in each other: AdapterHub's are three at most.
DEEPEST = 8
Reader = Callable[[Path], Adapter]
Fusion = Callable[[Path, Mapping[str, Adapter]], Adapter]


def locate(seen: Seen) -> Path | None:
    """The tensors of a fusion or of the first adapter of a set-up; what says what it is, where these are not there."""
    if not seen.folder:
        fused = seen.path.name in FUSED and (seen.path.parent / FUSION).is_file()
        return seen.path if fused else None
    if SETUP in seen.files:
        folder = seen.path / ",".join(names(setup(seen.path)))
        inside = [folder, *sorted(one for one in seen.path.iterdir() if one.is_dir())]
        return next((found for one in inside if (found := _inside(one))), seen.path / SETUP)
    return (_inside(seen.path) or seen.path / FUSION) if FUSION in seen.files else None


def _inside(folder: Path) -> Path | None:
    there = (folder / name for name in (*FUSED, *ADAPTERS))
    return next((file for file in there if os.path.isfile(file)), None)  # longer names than files can have are none


def weights(folder: Path, names: Sequence[str], what: str) -> Path:
    """One of the files of these names. Raises `ConfigMissing` where none is there."""
    found = next((folder / name for name in names if os.path.isfile(folder / name)), None)
    if found is None:
        raise ConfigMissing(
            f"{what} is not there, in `{folder}`", hint="put its folder beside the others, as `save_adapter_setup` does"
        )
    return found


def setup(folder: Path) -> Mapping[str, Any]:
    """The block of all. Raises a `ForeignError`."""
    said = json_file(folder / SETUP, ForeignError)
    block = said.get("adapter_setup")
    if not isinstance(block, dict):
        raise fields_of.misread("adapter_setup", block, "a block of adapters")
    return _only(block)


def _only(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is in a stack of one thing."""
    inside = children(block)
    return _only(inside[0]) if block.get("type") == STACK and len(inside) == 1 else block


def children(block: Mapping[str, Any]) -> list[Any]:
    """The blocks in a block; of a single one, the name of its adapter."""
    found = block.get("children")
    if not isinstance(found, list) or not found or not all(isinstance(one, dict | str) for one in found):
        raise fields_of.misread("children", found, "a list of blocks")
    if block.get("type") == SINGLE and len(found) > 1:
        raise fields_of.misread("children", found, "one adapter in a single block")
    return found if block.get("type") == SINGLE else [one if isinstance(one, dict) else {} for one in found]


def names(block: Mapping[str, Any], deep: int = 0) -> list[str]:
    """The adapters of a block and of those in it, in their order."""
    if block.get("type") == SINGLE:
        return [name(children(block)[0])]
    if deep > DEEPEST:
        raise fields_of.misread("adapter_setup", "deeper blocks", f"blocks in blocks, {DEEPEST} deep at most")
    return [one for child in children(block) for one in names(child, deep + 1)]


def plain(block: Mapping[str, Any]) -> bool:
    """Whether a block is an adapter: one, a stack, or a fusion of adapters alone."""
    kind = block.get("type")
    return kind == SINGLE or (kind in (STACK, FUSE) and all(one.get("type") == SINGLE for one in children(block)))


def _require_plain(block: Mapping[str, Any]) -> None:
    if plain(block):
        return
    kind = str(block.get("type"))
    if kind not in BLOCKS:
        raise refused(kind)
    what = (
        f"a `{kind}` of blocks, and an adapter is made of adapters alone"
        if kind in (STACK, FUSE)
        else f"a `{shown(kind)}`, which is no adapter: it says what of a batch or a text is for whom"
    )
    raise Unsupported(
        f"it is {what}", hint="put it on a live model: `adaptr.attach(model, adaptr.block(FOLDER, model))`"
    )


def refused(kind: str) -> Unsupported:
    """Of what adaptr has no block for."""
    if kind == "Average":
        return Unsupported(
            "AdapterHub's Average divides by the number of its adapters once more than its weights do, so that what it "
            "computes is no average",
            hint="adaptr's is: load each, and attach `adaptr.Average(a, b, weights=[...])`",
        )
    return Unsupported(
        f"adaptr has no block like AdapterHub's `{shown(kind)}`", hint="load its adapters, each alone (docs/serving.md)"
    )


def name(said: object) -> str:
    """Of an adapter, whose folder is called so."""
    if not isinstance(said, str) or not _NAME.fullmatch(said) or said in (".", ".."):
        raise fields_of.misread("children", said, "names of adapters")
    return said


def read(path: Path, adapter: Reader, fusion: Fusion) -> Adapter:
    """adapter: reads the file of one adapter; fusion: that of a fusion over adapters by name."""
    folder = path if path.is_dir() else path.parent
    if not (folder / SETUP).is_file():
        said = json_file(folder / FUSION, ForeignError).get("adapter_names")
        own = [name(one) for one in said] if isinstance(said, list) else []
        return fusion(weights(folder, FUSED, "the fusion"), beside(folder.parent, own, adapter))
    block = setup(folder)
    _require_plain(block)
    return made_of(block, folder, beside(folder, names(block), adapter), fusion)


def made_of(block: Mapping[str, Any], folder: Path, known: Mapping[str, Adapter], fusion: Fusion) -> Adapter:
    """The adapter that a `plain` block is, of those that are known by name."""
    found = names(block)
    members = {one: known[one] for one in found}
    if len(members) < len(found):
        raise conflict("a block has an adapter twice")
    if block["type"] == FUSE:
        return fusion(weights(folder / ",".join(members), FUSED, "the fusion"), members)
    return next(iter(members.values())) if len(members) == 1 else stacked(members)


def beside(folder: Path, names: Sequence[str], adapter: Reader) -> dict[str, Adapter]:
    """The adapters of these names. Raises `ConfigConflict` for none, or one twice."""
    if not names or len(set(names)) < len(names):
        raise conflict("it is made of no adapters, or of one that is there twice")
    return {one: adapter(weights(folder / one, ADAPTERS, f"the adapter `{shown(one)}`")) for one in names}


def part(said: str) -> str:
    """A name as parts have them."""
    return re.sub(r"[^a-z0-9_-]", "-", said.lower())[:64]


def stacked(members: Mapping[str, Adapter]) -> Adapter:
    """One on the other. Raises `Unsupported` where AdapterHub does something else with them than a stack."""
    children: dict[str, Adapter] = {}
    for said, member in members.items():
        found = {f"{part(said)}-{one}": member.part(one) for one in member.parts} or {part(said): member}
        children |= found
    several.require_first(list(members.values()))
    children = several.one(children)
    others = [child.method for child in children.values() if child.method not in _SEQUENTIAL]
    first = next(iter(members.values()))
    inverse = [child for child in children.values() if child.method == "invertible"]
    if len(set(others)) < len(others) or (len(members) > 1 and "parallel" in others):
        raise Unsupported(
            "its adapters are of a sort of which AdapterHub has several at once in a way of its own",
            hint="load each alone, and attach one after the other",
        )
    if inverse and not any(child.method == "invertible" for child in [*map(first.part, first.parts), first]):
        raise Unsupported(
            "AdapterHub leaves out the invertible adapter of all but the first of a stack", hint="put it first"
        )
    if len(children) == 1:
        return next(iter(children.values()))
    return made("stack", {"order": list(children), "weights": {}, "off": []}, children)


def made(method: str, config: dict[str, Any], children: Mapping[str, Adapter]) -> Adapter:
    """An adapter over others. Raises `ConfigConflict` where these are of different bases, or called alike."""
    bases = {child.base.id for child in children.values() if child.base.id}
    if len(bases) > 1:
        raise conflict(f"its adapters are of different bases, {phrases.listed(sorted(map(shown, bases)))}")
    first = next(iter(children.values()))
    whole = Adapter(method, config, {}, {}, base=first.base)
    return whole.with_parts(children)
