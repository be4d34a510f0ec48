"""A fusion as AdapterHub has it: a set-up of its adapters' folders, with that of the fusion over them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, phrases
from adaptr.foreign import same, saving
from adaptr_formats.adapterhub import places, setups
from adaptr_formats.adapterhub.fusion import READ, SLOTS
from adaptr_formats.adapterhub.written.layers import Layers, elsewhere, one

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

_ALWAYS = {
    "key": True, "query": True, "value": True, "residual_before": False, "temperature": False,
    "value_before_softmax": True, "value_initialized": True,
}  # fmt: skip


def children(adapter: Adapter) -> Iterator[tuple[str, Adapter]]:
    """Its adapters, by name, of which each becomes a folder of its own."""
    for name in adapter.config["experts"]:
        yield name, adapter.part(name)


def write(adapter: Adapter, known: Layers, told: Mapping[str, Any], folder: Path) -> tuple[Path, dict[str, str]]:
    """The fusion and what says that it is one, into the folder of all. (the file, what tensors are called)"""
    names = list(adapter.config["experts"])
    name = ",".join(names)
    tensors = dict(_tensors(adapter, known, name))
    inner = folder / name
    inner.mkdir()
    said = {
        **told,
        "adapter_names": names,
        "config": {
            **_ALWAYS,
            "query_before_ln": one((_of_output(adapter, t) for t in adapter.targets.values()), "way to read"),
            "regularization": adapter.config["regularise"] > 0,
            "dropout_prob": adapter.config["dropout"] or None,
        },
        "name": name,
    }
    block = {
        "type": setups.FUSE,
        "children": [{"type": setups.SINGLE, "children": [child]} for child in names],
    }
    whole = {"adapter_setup": block, "head_setup": None, "version": told["version"]}
    for file, what in ((inner / setups.FUSION, said), (folder / setups.SETUP, whole)):
        file.write_text(json.dumps(what, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    file = inner / setups.FUSED[0]
    saving.save(file, dict(tensors.values()), {"format": "pt", saving.ABOUT: saving.about(adapter)})
    return file.relative_to(folder), {ours: theirs for ours, (theirs, _) in tensors.items()}


def _tensors(adapter: Adapter, known: Layers, name: str) -> Iterator[tuple[str, tuple[str, Tensor | Same]]]:
    for path in adapter.targets:
        layer, rest = places.divided(path)
        place = next((one for one in known.model.at(layer).bottlenecks if rest in (one.at, one.same)), None)
        if place is None:
            raise elsewhere(path, "fusion")
        at = f"{places.joined(layer, place.tensors)}.adapter_fusion_layer.{name}"
        own = same.at(adapter, path)
        for ours, slot in SLOTS.items():
            yield f"{path}:{ours}", (f"{at}.{slot}", own[ours])


def _of_output(adapter: Adapter, target: Target) -> bool:
    """Whether it reads the output alone, where its adapters read a sum."""
    reads = [_read(adapter.part(name).targets[target.path].config) for name in adapter.parts]
    if all(one == _read(target.config) for one in reads):
        return False
    if _read(target.config) == _read({}) and all(one == reads[0] for one in reads):
        return True
    raise Unsupported(
        f"`{target.path}`: in AdapterHub a fusion and its adapters read the same, and these do not", hint=phrases.OWN
    )


def _read(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(config.get(field) or "" for field in READ)
