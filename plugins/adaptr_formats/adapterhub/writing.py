"""From an adapter to a folder that AdapterHub's library loads (`load_adapter(..., use_safetensors=True)`).

Its configurations are of all layers: those without anything are left out by name, and the others have the same.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter.keys import in_part
from adaptr.errors import ConfigMissing, Unsupported, phrases
from adaptr.files import replacing_folder
from adaptr.foreign import Written, saving
from adaptr.foreign.seen import CONFIG
from adaptr_formats.adapterhub import config, former, models
from adaptr_formats.adapterhub.base import facts
from adaptr_formats.adapterhub.fusion import METHOD as FUSION
from adaptr_formats.adapterhub.written import bottleneck, factors, fusion, head, invertible, prefix, prompt, reft
from adaptr_formats.adapterhub.written.layers import Layers, Made

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

INVERTIBLE = "invertible"
WEIGHTS, VERSION = "adapter.safetensors", "adapters.1.3.0"
_WRITERS = {
    **dict.fromkeys(("lora", "dora", "gated-lora", "ia3"), factors.write),
    **dict.fromkeys(
        ("houlsby", "pfeiffer", "gated-pfeiffer", "parallel", "compacter", "compacter-pp"), bottleneck.write
    ),
    **dict.fromkeys(("prefix", "gated-prefix"), prefix.write),
    "prompt": prompt.write,
    **dict.fromkeys(("loreft", "noreft"), reft.write),
    INVERTIBLE: invertible.write,
}
#: What it has and does not read again, and why.
_MISREAD = {"direft": " in a file: its library reads the files of DiReFT as NoReFT"}


def based(adapter: Adapter, base: BaseModel) -> Adapter:
    """With the base's type, width, layers and biases in `foreign`."""
    from adaptr.checkpoint.skeleton import skeleton

    model = skeleton(base)
    said = {**facts(model), "former": former.names(model)}
    return adapter.replace(foreign={"adapterhub": {**adapter.foreign.get("adapterhub", {}), "base": said}})


def lost(adapter: Adapter) -> list[str]:
    """What has no place in such a folder. Raises `Unsupported` where AdapterHub has no such method."""
    whole, adapter = head.lost(adapter), head.without(adapter)
    parts = [adapter.part(name) for name in adapter.parts] or [adapter]
    for part in parts:
        if part.method not in _WRITERS:
            why = _MISREAD.get(part.method, "")
            raise Unsupported(
                f"AdapterHub has no equivalent of `{part.method}`{why}",
                hint=f"it can hold {phrases.listed(_WRITERS)}; `adaptr convert --method lora` makes one of what has a "
                "delta",
            )
    tensors = [tensor for part in parts for tensor in part.tensors.values()]
    wide = any(str(tensor.dtype) == "torch.float64" for tensor in tensors)
    return [
        *saving.lost(adapter),
        *whole,
        *(["the precision of fp64, which becomes fp32"] if wide else []),
    ]


def save(adapter: Adapter, out: Path, force: bool) -> Written:
    """Write `adapter_config.json` and `adapter.safetensors` into the folder `out`.

    Raises `Unsupported` for what AdapterHub has no place for, `ConfigMissing` without the base.
    """
    plain = saving.plain(adapter).floats()
    known = _known(plain)
    with replacing_folder(out, force) as folder:
        if adapter.method != FUSION:
            return Written(out / WEIGHTS, _written(plain, known, folder))
        renamed: dict[str, str] = {}
        for name, child in fusion.children(plain):
            (folder / name).mkdir()
            own = _written(child, dataclasses.replace(known, name=name), folder / name)
            renamed |= {in_part(ours, name): theirs for ours, theirs in own.items()}
        file, own = fusion.write(plain, known, _told(plain, known), folder)
        return Written(out / file, {**renamed, **own})


def _written(adapter: Adapter, known: Layers, folder: Path) -> dict[str, str]:
    """One adapter into its folder, and what its tensors are called there."""
    made = [_under(one, known.former) for one in _made(head.without(adapter), known)]
    told = {**_told(adapter, known), "config": _united([one.config for one in made]), "name": known.name}
    tensors = {theirs: value for one in made for theirs, value in one.tensors.values()}
    (folder / CONFIG).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    saving.save(folder / WEIGHTS, tensors, {"format": "pt", saving.ABOUT: saving.about(adapter)})
    beside = head.write(adapter, _told(adapter, known), known.name, folder)
    return {**{ours: theirs for one in made for ours, (theirs, _) in one.tensors.items()}, **beside}


def _told(adapter: Adapter, known: Layers) -> dict[str, Any]:
    return {
        "hidden_size": known.width,
        "model_class": known.model.named,
        "model_name": adapter.base.id,
        "model_type": known.model_type,
        "version": VERSION,
    }


def _known(adapter: Adapter) -> Layers:
    """What the base is, of which the adapter is."""
    said = adapter.foreign.get("adapterhub", {})
    model = said.get("base")
    if not model:
        raise ConfigMissing(
            "which layers a base has, and what AdapterHub calls them, an adapter does not say",
            hint="give the base (`--base`, a folder with its `config.json`)",
        )
    kind = models.MODELS.get(model["model_type"])
    if kind is None:
        raise Unsupported(
            f"AdapterHub's library has no models of type `{model['model_type']}`, or adaptr doesn't know them",
            hint=f"adaptr knows {phrases.listed(models.MODELS)}",
        )
    count = model["layers"]
    layers = tuple(map(str, range(count))) if isinstance(count, int) else tuple(count)
    before = said.get("config", {}).get("name") or adapter.name
    name = re.sub(r"[^\w-]", "_", str(before)) or "adapter"
    return Layers(
        model["model_type"], model["hidden_size"], layers, frozenset(model["biased"]), name, kind,
        model.get("former", {}),
    )  # fmt: skip


def _made(adapter: Adapter, known: Layers) -> Iterator[Made]:
    """A configuration for each part, of which AdapterHub tells those of one kind apart by nothing."""
    if not adapter.parts:
        yield _WRITERS[adapter.method](former.called(adapter, known.former), known)
        return
    _require_plain(adapter)
    kinds: dict[str, Made] = {}
    for name in adapter.parts:
        part = former.called(adapter.part(name), known.former)
        made = _WRITERS[part.method](part, known)
        made = dataclasses.replace(made, tensors={in_part(key, name): found for key, found in made.tensors.items()})
        kind = part.method if part.method == INVERTIBLE else made.config.get("architecture", config.BOTTLENECK)
        if kind in kinds:
            raise Unsupported(
                "AdapterHub's unions have one configuration of each kind, and this has several", hint=phrases.OWN
            )
        kinds[kind] = made
    if INVERTIBLE in kinds and config.BOTTLENECK in kinds:
        kinds[config.BOTTLENECK] = invertible.joined(kinds.pop(INVERTIBLE), kinds[config.BOTTLENECK])
    yield from kinds.values()


def _under(made: Made, former: Mapping[str, str]) -> Made:
    """With the adapter's own keys, not those of places as they were called."""
    new = {old: path for path, old in former.items()}
    split = {key: key.rpartition(":") for key in made.tensors}
    return dataclasses.replace(
        made,
        tensors={new.get(path, path) + colon + name: made.tensors[key] for key, (path, colon, name) in split.items()},
    )


def _require_plain(adapter: Adapter) -> None:
    if adapter.own or any(adapter.config.get("off", ())) or any(w != 1 for w in _weights(adapter)):
        raise Unsupported("AdapterHub's unions have no weights for their parts", hint=phrases.OWN)


def _weights(adapter: Adapter) -> Iterator[Any]:
    found = adapter.config.get("weights")
    yield from found.values() if isinstance(found, Mapping) else ()


def _united(configs: list[dict[str, Any]]) -> dict[str, Any]:
    return configs[0] if len(configs) == 1 else {"architecture": config.UNION, "configs": configs}
