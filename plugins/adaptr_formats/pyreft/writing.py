"""From an adapter to a folder as pyreft saves it, with files of torch's, which are all that it loads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, phrases
from adaptr.files import replacing_folder
from adaptr.foreign import Written, saving
from adaptr_formats.pyreft.config import BLOCKS, POSITIONS
from adaptr_formats.pyreft.kinds_of import PROJECTION, ROTATE, SOURCE
from adaptr_formats.pyreft.named import BEGINS, ENDS, SETTINGS

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter

#: adaptr's names to those of the class that it is written as.
_NAMES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "loreft": ("Loreft", {"R": ROTATE, "W": "weight", "b": "bias"}),
    "noreft": ("Noreft", {"R": f"{PROJECTION}.weight", "W": f"{SOURCE}.weight", "b": f"{SOURCE}.bias"}),
    "direft": ("Nodireft", {"W2": f"{PROJECTION}.weight", "W1": f"{SOURCE}.weight", "b": f"{SOURCE}.bias"}),
}
_BLOCK = re.compile(r"(?P<blocks>(?:.*\.)?(?:layers?|h|blocks?))\.(?P<layer>\d+)", re.DOTALL)
#: pyreft's own reading of what it saves.
_NOTES = {
    "loreft": ("pyreft loads W and b in bf16, unless its class is given another dtype",),
    "noreft": ("pyreft 0.1.0 loads no NoReFT that it saved: make its interventions, and call `load_intervention`",),
    "direft": ("pyreft 0.1.0 loads no NodiReFT that it saved: make its interventions, and call `load_intervention`",),
}


def lost(adapter: Adapter) -> list[str]:
    """What has no place in such a folder. Raises `Unsupported` where pyreft has no such intervention."""
    if adapter.method not in _NAMES:
        raise Unsupported(
            f"pyreft has no equivalent of `{adapter.method}`",
            hint=f"it can hold {phrases.listed(_NAMES)}",
        )
    rates = any(target.config["dropout"] for target in adapter.targets.values())
    return [
        *saving.lost(adapter),
        *(f"the whole parameter `{path}`" for path in adapter.replaced_paths),
        *(["the dropout rate"] if rates else []),
    ]


def save(adapter: Adapter, out: Path, force: bool) -> Written:
    """Raises `Unsupported` for what pyreft has no place for."""
    import torch

    plain = saving.plain(adapter)
    _require_finished(plain)
    kind, names = _NAMES[adapter.method]
    blocks, numbers = _placed(plain)
    first, last = _positions(plain)
    files, renamed = {}, {}
    units = list(_units(plain, numbers))
    for key, path, suffix in units:
        own, stored = plain.at(path), {}
        for name, theirs in names.items():
            value: Tensor = own[f"{name}{suffix}"]
            stored[theirs] = value.mT.contiguous() if theirs == ROTATE else value.contiguous().clone()
            renamed[f"{path}:{name}{suffix}"] = f"{key}/{theirs}"
        files[f"{BEGINS}{key}{ENDS}"] = stored
    with replacing_folder(out, force) as folder:
        for file, stored in files.items():
            torch.save(stored, folder / file)
        said = _said(plain, kind, units, numbers) | {
            POSITIONS: "+".join(text for text, count in ((f"f{first}", first), (f"l{last}", last)) if count),
            BLOCKS: blocks,
            saving.ABOUT: saving.about(adapter),
        }
        text = json.dumps({name: value for name, value in said.items() if value != ""}, indent=2, sort_keys=True)
        (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")
    return Written(out / f"{BEGINS}{units[0][0]}{ENDS}", renamed, notes=_NOTES[adapter.method])


def _said(adapter: Adapter, kind: str, units: list[tuple[str, str, str]], numbers: Mapping[str, int]) -> dict[str, Any]:
    targets = [adapter.targets[path] for _, path, _ in units]
    places = [[numbers[one.path], "block_output", "pos", 1, one.config["r"], *[None] * 9] for one in targets]
    return {
        "mode": "parallel",
        "representations": places,
        "intervention_types": [f"<class 'pyreft.interventions.{kind}Intervention'>"] * len(units),
        "intervention_dimensions": [one.shape[0] for one in targets],
        "intervention_constant_sources": [True] * len(units),
        "sorted_keys": [key for key, _, _ in units],
    }


def _units(adapter: Adapter, numbers: Mapping[str, int]) -> Iterator[tuple[str, str, str]]:
    """(key, path, suffix): all of the first tokens, then all of the last where these have their own."""
    shared = _one(adapter, "share_weights")
    for end, suffix in enumerate(("",) if shared else ("", "_s")):
        for path in sorted(numbers, key=numbers.__getitem__):
            yield f"layer_{numbers[path]}_comp_block_output_unit_pos_nunit_1#{end}", path, suffix


def _placed(adapter: Adapter) -> tuple[str, dict[str, int]]:
    """(the path of the list of blocks, number by path)."""
    found = {path: _BLOCK.fullmatch(path) for path in adapter.targets}
    blocks = {match["blocks"] if match else "" for match in found.values()}
    if len(blocks) > 1 or "" in blocks:
        raise Unsupported("pyreft intervenes at the outputs of one stack of blocks", hint=phrases.OWN)
    return blocks.pop(), {path: int(match["layer"]) for path, match in found.items() if match}


def _positions(adapter: Adapter) -> tuple[int, int]:
    return _one(adapter, "first"), _one(adapter, "last")


def _one(adapter: Adapter, name: str) -> int:
    """What all targets say."""
    values = {target.config[name] for target in adapter.targets.values()}
    if len(values) > 1:
        raise Unsupported(f"pyreft has one `{name}` for all layers, and this has several", hint=phrases.OWN)
    return int(values.pop())


def _require_finished(adapter: Adapter) -> None:
    first, last = _positions(adapter)
    if adapter.method == "loreft" and not _one(adapter, "finished"):
        raise Unsupported(
            "its basis is what training makes of R, which pyreft's file has and this adapter not yet",
            hint="finish its training (`session.adapted()`)",
        )
    if not (first or last) or (not _one(adapter, "share_weights") and not (first and last)):
        raise Unsupported("it is at the tokens of one end with weights for both, or at none", hint=phrases.OWN)
